// Calls the URL that is named on the command line, with the key behind it, by the
// function that the guide prints, and prints the answer's status. What it waits is
// printed, and shorter here.
const { setTimeout: later } = globalThis;

globalThis.setTimeout = (then, ms) => {
  console.log(JSON.stringify({ waits: ms }));
  return later(then, 300);
};
require("node:vm").runInThisContext(require("node:fs").readFileSync(process.argv[2], "utf8"));

makeRequest(process.argv[3], { headers: { "X-API-Key": process.argv[4] } }).then((response) => {
  console.log(JSON.stringify({ status: response.status, limit: response.headers.get("X-RateLimit-Limit") }));
});
