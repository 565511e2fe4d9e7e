// A program that uses types generated from the OpenAPI document; the compiler checks it, and then it is run.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[]; exit(code: number): never };
const client = createClient<paths>({ baseUrl: process.argv[2] });

const predicted = await client.POST("/predict", { body: { user: "196", item: "242" }, params: { query: { intervals: true } } });
if (typeof predicted.data !== "object" || !("rating" in predicted.data)) process.exit(1);
const rating: number = predicted.data.rating;

const listed = await client.GET("/users/{user}/top", { params: { path: { user: "196" }, query: { n: 3, rank_by: "rating" } } });
const items: components["schemas"]["ListedItem"][] = listed.data?.items ?? [];
const titles: (string | null)[] = items.map((item) => item.title);

const refused = await client.GET("/items/{item}", { params: { path: { item: "no such item" } } });
const problem: components["schemas"]["Problem"] | undefined = refused.error;

// @ts-expect-error: the document has no such parameter
await client.GET("/items", { params: { query: { limit: 3 } } });

console.log(JSON.stringify({ rating, length: titles.length, status: problem?.status }));
