# The ratings store of the compose file. RATECAST_STORE can name any other PostgreSQL.
FROM debian:bookworm-slim AS database
RUN apt-get update && apt-get install --yes --no-install-recommends postgresql-15 && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner postgres --group postgres --mode 700 /data
ENV PATH=/usr/lib/postgresql/15/bin:$PATH PGDATA=/data/15 PGHOST=/tmp PGUSER=ratecast
USER postgres
VOLUME ["/data"]
EXPOSE 5432
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["pg_isready", "--dbname", "ratecast"]
COPY --chmod=755 database.sh /usr/local/bin/database
CMD ["database"]

# The proxy in front of the replicas of the compose file.
FROM debian:bookworm-slim AS proxy
RUN apt-get update && apt-get install --yes --no-install-recommends haproxy && rm -rf /var/lib/apt/lists/*
COPY deploy/proxy/haproxy.cfg /etc/haproxy/haproxy.cfg
COPY deploy/proxy/errors /etc/haproxy/errors
USER haproxy
EXPOSE 8000
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=5s --timeout=5s --start-period=120s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8000 && printf 'GET /health/ready HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q ' 200 ' <&3"]
CMD ["haproxy", "-db", "-f", "/etc/haproxy/haproxy.cfg"]

FROM python:3.11-slim AS build
RUN python -m venv /opt/ratecast
ENV PATH=/opt/ratecast/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
# The dependencies are a layer of their own, which is rebuilt only when they change.
COPY requirements/serve.lock requirements/serve.lock
RUN pip install --require-hashes --no-deps --requirement requirements/serve.lock
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN pip install --constraint constraints.txt 'torch==2.13.*'
COPY models models
COPY training training
COPY app app
COPY ratecast ratecast
RUN pip install --no-deps .
# The SBOM of the image, as CycloneDX. The program that writes it stays in this stage.
RUN python -m venv /opt/sbom && /opt/sbom/bin/pip install --constraint constraints.txt cyclonedx-bom \
    && /opt/sbom/bin/cyclonedx-py environment --of JSON -o /sbom.cdx.json /opt/ratecast/bin/python

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home ratecast \
    && install --directory --owner ratecast --group ratecast /checkpoints /cache
COPY --from=build /opt/ratecast /opt/ratecast
COPY --from=build /sbom.cdx.json /usr/share/doc/ratecast/sbom.cdx.json
LABEL org.opencontainers.image.title=ratecast \
    org.opencontainers.image.licenses=MIT \
    ratecast.sbom=/usr/share/doc/ratecast/sbom.cdx.json
ENV PATH=/opt/ratecast/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RATECAST_CACHE=/cache \
    NUMBA_CACHE_DIR=/cache/numba \
    RATECAST_CHECKPOINTS=/checkpoints \
    RATECAST_HOST=0.0.0.0
USER ratecast
WORKDIR /home/ratecast
VOLUME ["/checkpoints", "/cache"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8000 && printf 'GET /health/ready HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q ' 200 ' <&3"]
CMD ["python", "-m", "app"]
