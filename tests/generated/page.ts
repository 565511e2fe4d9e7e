// Uses the client of docs/web-page.md as a page would, for a user who is new to the service.
import { recommendations } from "./recommendations.js";

declare const process: { argv: string[] };
const service = recommendations(process.argv[2], "of a page", process.argv[3]);
const before = await service.top(3);
await service.rate(before[0].item, 5);
const after = await service.top(3);
console.log(JSON.stringify([before, after].map((items) => items.map(({ item }) => item))));
