// A page that has everything in it.

import { start } from "./main.js";
import { unpacked } from "./unpack.js";

start({ bytes: unpacked });
