// Does the main job with openapi-fetch and the types that openapi-typescript has generated from the OpenAPI document.
//
// usage: node generated_client.js SERVER TOKEN URL FILE
// Fetches URL, writes the torrent to FILE, and prints the magnet link. Then it prints the code of a failed request, and
// that of a refused one.

import { writeFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Created = components["schemas"]["Created"];

const [server, token, url, file] = process.argv.slice(2) as [string, string, string, string];
const headers = { authorization: `Bearer ${token}` };
const client = createClient<paths>({ baseUrl: server, headers });

async function ended({ data: created }: { data?: Created }) {
  if (!created) throw new Error("not created");
  const path = { id: created.id };
  for (;;) {
    const { data } = await client.GET("/v1/requests/{id}", { params: { path, query: { wait: 10 } } });
    if (data && (data.status === "ready" || data.status === "failed")) return data;
  }
}

const ready = await ended(await client.POST("/v1/requests", { body: { url, ttl: 60 } }));
const path = { id: ready.id };
const torrent = await client.GET("/v1/requests/{id}/torrent", { params: { path }, parseAs: "arrayBuffer" });
writeFileSync(file, new Uint8Array(torrent.data as unknown as ArrayBuffer));
const magnet = await client.GET("/v1/requests/{id}/magnet", { params: { path } });
console.log((magnet.data as components["schemas"]["Magnet"]).magnet_link);

const post = { url: `${server}/`, method: "POST", body: "text" } as const;
const failed = await ended(await client.POST("/v1/requests", { body: post }));
const code: components["schemas"]["FailureCode"] | null | undefined = failed.error_code;
console.log(code);
const refused = await client.POST("/v1/requests", { body: { url: "ftp://example.org/" } });
const problem: components["schemas"]["ProblemCode"] | undefined = refused.error?.code;
console.log(problem);
