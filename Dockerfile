# rowmill as an image: the binary, root certificates, and the folder that `rowmill init` makes.
# Put a rowmill.toml of your own and its handlers at /jobs, or build your application's binary in place of this one.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential
WORKDIR /rowmill
COPY . .
RUN cargo build --release --locked

FROM debian:bookworm-slim
# S3 over TLS needs the certificates; the handler that `init` makes is Python.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 65532 --no-create-home rowmill
COPY --from=build /rowmill/target/release/rowmill /usr/local/bin/rowmill
RUN rowmill init /jobs && chown -R rowmill /jobs
USER rowmill
WORKDIR /jobs
ENTRYPOINT ["rowmill"]
CMD ["work"]
