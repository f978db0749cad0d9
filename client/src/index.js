export { Uproar } from "./client.js";
export { UproarError } from "./errors.js";
