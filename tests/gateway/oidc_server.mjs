// An OIDC server for tests: node oidc_server.mjs DIRECTORY PORT, where DIRECTORY holds oauth2-mock-server.
// Tokens carry the claims of the request's field `claims` (JSON; null takes one out). SIGHUP adds a key.
import { pathToFileURL } from "node:url";

const [directory, port] = process.argv.slice(2);
const entry = `${directory}/node_modules/oauth2-mock-server/dist/index.mjs`;
const { OAuth2Server } = await import(pathToFileURL(entry).href);

const server = new OAuth2Server();
await server.issuer.keys.generate("RS256");
server.service.on("beforeTokenSigning", (token, request) => {
  Object.assign(token.payload, JSON.parse(request.body.claims));
  for (const [name, value] of Object.entries(token.payload)) {
    if (value === null) delete token.payload[name];
  }
});
process.on("SIGHUP", () => server.issuer.keys.generate("ES256"));
await server.start(Number(port), "127.0.0.1");
