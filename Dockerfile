# The image of the server, and with `--target seeder` that of the seeder on AWS. docs/one-machine.md and docs/aws.md say
# how to run them.
#
#   docker build -t proxytorrent .
#   docker build -t proxytorrent-seeder --target seeder .
#   docker build -o symbols --target symbols .    # the debug symbols of both programs, for gdb and perf

ARG RUST=docker.io/library/rust:1.95-slim-bookworm
ARG DEBIAN=docker.io/library/debian:bookworm-slim

FROM ${RUST} AS build
RUN apt-get update -qq \
  && apt-get install -qq -y --no-install-recommends binutils g++ libtorrent-rasterbar-dev pkg-config >/dev/null \
  && rm -rf /var/lib/apt/lists/*
# Writes the versions of all dependencies into the programs, for `cargo audit bin` and other scanners.
RUN cargo install --quiet --locked --debug --root /usr/local --version 0.7.7 cargo-auditable
WORKDIR /src
COPY . .
# Tests build without optimization.
ARG CARGO_PROFILE_RELEASE_LTO=thin
ARG CARGO_PROFILE_RELEASE_OPT_LEVEL=3
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
  cargo auditable build --quiet --release --locked --package proxytorrent --package proxytorrent-seeder-container \
  && mkdir -p /out /symbols \
  && for name in proxytorrent seeder-container; do \
    objcopy --only-keep-debug --compress-debug-sections target/release/$name /symbols/$name.debug \
    && objcopy --strip-debug --add-gnu-debuglink=/symbols/$name.debug target/release/$name /out/$name || exit 1; \
  done

FROM scratch AS symbols
COPY --from=build /symbols/ /

FROM ${DEBIAN} AS base
RUN apt-get update -qq \
  && apt-get install -qq -y --no-install-recommends ca-certificates libtorrent-rasterbar2.0 >/dev/null \
  && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
  && groupadd --gid 10001 proxytorrent \
  && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin proxytorrent \
  && install --directory --owner proxytorrent --group proxytorrent /data /cache
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ProxyTorrent" \
  org.opencontainers.image.licenses="MIT OR Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}"
USER 10001:10001

FROM base AS seeder
LABEL org.opencontainers.image.description="The seeder of ProxyTorrent on AWS"
COPY --from=build /out/seeder-container /usr/local/bin/
ENV SEEDER__CACHE_FOLDER=/cache SEEDER__HTTP=127.0.0.1:6880 SEEDER__LISTEN=0.0.0.0:6881
WORKDIR /cache
VOLUME /cache
EXPOSE 6881/tcp 6881/udp
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["seeder-container", "health"]
ENTRYPOINT ["seeder-container"]

FROM base AS server
LABEL org.opencontainers.image.description="URL in, torrent out: fetches through your proxy, packages, seeds"
COPY --from=build /out/proxytorrent /usr/local/bin/
ENV HOST=0.0.0.0 SEEDER__LISTEN=0.0.0.0:6881 STORAGE__BASE_PATH=/data
WORKDIR /data
VOLUME /data
EXPOSE 8000/tcp 6881/tcp 6881/udp
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["proxytorrent", "health"]
ENTRYPOINT ["proxytorrent"]
CMD ["serve"]
