// A page that asks its server for what it shows.

import { start } from "./main.js";
import { Stream } from "./stream.js";
import { inflated } from "./unpack.js";

async function fetched(name) {
  const answer = await fetch(name.replace("-", "/"));
  if (!answer.ok) throw new Error(await answer.text());
  return inflated(new Uint8Array(await answer.arrayBuffer()));
}

start({ bytes: fetched, stream: (viewer) => new Stream(viewer, fetched) });
