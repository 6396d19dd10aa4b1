// Runs the guide's check of quota warnings as a page of the server's would: relative
// URLs are its own, and what came is said. The guide leaves reading the answer out.
const fs = require('fs');
const [snippet, base, apiKey] = process.argv.slice(2);
const { fetch: request } = globalThis;
const fetch = async (path, options) => {
  const response = await request(new URL(path, base), options);
  console.log(JSON.stringify({ status: response.status, warnings: await response.json() }));
  return response;
};
new Function('fetch', 'apiKey', `return (async () => {${fs.readFileSync(snippet, 'utf8')}})()`)(fetch, apiKey);
