// Runs what the guide prints as a page of the server's would, in a library's EventSource:
// relative URLs are its own, and the session goes along in a cookie. Prints when a stream
// is open.
const { EventSource } = require("eventsource");
const [snippet, base, session] = process.argv.slice(2);

globalThis.EventSource = class extends EventSource {
  constructor(path, init) {
    super(new URL(path, base), {
      ...init,
      fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, Cookie: `__Host-session=${session}` } }),
    });
    this.addEventListener("open", () => console.log("open"));
  }
};
require("node:vm").runInThisContext(require("node:fs").readFileSync(snippet, "utf8"));
