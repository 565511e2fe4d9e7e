#!/usr/bin/env bash
# Downloads the console's libraries from npm into static/vendor, in pinned versions with checked hashes. It needs npm. It makes two
# changes: hooks imports Preact by a path, because the policy of the console forbids import maps, and the style of the charts has no
# rules for titles and legends, because the console shows its own.
set -euo pipefail
cd "$(dirname "$0")/static/vendor"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fetch() { # name version sha512
  npm pack --silent --pack-destination "$scratch" "$1@$2" > /dev/null
  archive="$scratch/$1-$2.tgz"
  found="sha512-$(openssl dgst -sha512 -binary "$archive" | base64 -w0)"
  [ "$found" = "$3" ] || { echo "$1 $2: $found, wanted $3" >&2; exit 1; }
  mkdir "$scratch/$1"
  tar xzf "$archive" -C "$scratch/$1" --strip-components 1
  cp "$scratch/$1/LICENSE" "$1.LICENSE.txt"
}

fetch preact 11.2.0 sha512-/HfHI/7N84e6GrWBJ3J280z3mLaRJiDcSvj/A+y/4AbLnND/1UlGHe1sR6oYuTGwId0nP7dqDU9OnLxMPZ7xBg==
fetch htm 3.1.1 sha512-983Vyg8NwUE7JkZ6NmOqpCZ+sh1bKv2iYTlUkzlWmA5JD2acKoxd4KVxbMmxX/85mtfdnDmTFoNKcg5DGAvxNQ==
fetch uplot 1.6.32 sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==

sourceless() { sed '/^\/\/# sourceMappingURL=/d' "$1"; }
sourceless "$scratch/preact/dist/preact.mjs" > preact.js
sourceless "$scratch/preact/hooks/dist/hooks.mjs" | sed 's#from"preact"#from"./preact.js"#; s#from "preact"#from"./preact.js"#' > hooks.js
cp "$scratch/htm/dist/htm.module.js" htm.js
cp "$scratch/uplot/dist/uPlot.iife.min.js" uplot.js
sed -E 's/\.u-(title|legend|inline|series)[^{}]*\{[^}]*\}//g' "$scratch/uplot/dist/uPlot.min.css" > uplot.css
chmod 644 ./*
