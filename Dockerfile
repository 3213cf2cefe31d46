# landfast for linux/amd64. docs/image.md says how this is built, run and verified.

# Where it is built. Its glibc may not be newer than RUN_IMAGE's, or the program would not start there: both are Debian 12.
ARG BUILD_IMAGE=docker.io/library/rust:1.95.0-bookworm
# Where it runs: glibc, which looks names up as on any other system, certificates, a user without rights, no shell.
# The releases name both images by their digests.
ARG RUN_IMAGE=gcr.io/distroless/cc-debian12:nonroot

# The argument's value has the tag.
# hadolint ignore=DL3006
FROM ${BUILD_IMAGE} AS build
# Cargo's profile: `release`, or `dev`, which is made in a third of the time and runs slower.
ARG PROFILE=release
# Further features of a dependency, such as `tokio/test-util`: a build for tests takes over what other tests have built.
ARG FEATURES=
ENV CARGO_INCREMENTAL=0
WORKDIR /src
# The dependencies are built with an empty program, so that a change of the sources leaves this layer as it is.
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
RUN mkdir functions src \
    && echo 'fn main() {}' >functions/main.rs \
    && touch src/lib.rs \
    && cargo build --locked --bin landfast --profile "${PROFILE}" --features "${FEATURES}"
COPY packaging packaging
COPY LICENSE LICENSE
RUN mkdir -p /out/licenses \
    && packaging/licences >/out/licenses/THIRD-PARTY.txt \
    && cp LICENSE /out/licenses/LICENSE
COPY docs/json.md docs/json.md
COPY functions functions
COPY src src
# What `landfast version` tells: the commit that is built, and when it was made, in seconds since 1970. Not by
# SOURCE_DATE_EPOCH: each dependency with C in it is compiled anew where that changes.
ARG COMMIT=
ARG COMMIT_EPOCH=
# The copies may be older than the empty program.
RUN touch functions/main.rs src/lib.rs \
    && LANDFAST_COMMIT="${COMMIT}" LANDFAST_COMMIT_EPOCH="${COMMIT_EPOCH}" cargo build --locked --bin landfast --profile "${PROFILE}" --features "${FEATURES}" \
    && case "${PROFILE}" in dev) built=debug ;; *) built="${PROFILE}" ;; esac \
    && install -D --strip "target/${built}/landfast" /out/usr/local/bin/landfast

# hadolint ignore=DL3006
FROM ${RUN_IMAGE}
# For the labels: the version without its `v`, the commit, its date as RFC 3339, and the address of the sources.
ARG VERSION=
ARG COMMIT=
ARG CREATED=
ARG SOURCE=
LABEL org.opencontainers.image.title="landfast" \
    org.opencontainers.image.description="Event and file ingester for Apache Iceberg on Google Cloud: acknowledged means committed." \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.source="${SOURCE}" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${COMMIT}" \
    org.opencontainers.image.created="${CREATED}"
COPY --from=build /out /
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["landfast"]
CMD ["serve", "--config", "/etc/landfast/landfast.yaml"]
