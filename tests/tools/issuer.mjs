// An OpenID provider on loopback that issues JSON Web Tokens as access tokens (RFC 9068).
// usage: node issuer.mjs PORT KEY_ID
import Provider from "oidc-provider";
import { generateKeyPairSync } from "node:crypto";

const [port, kid] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const key = { ...privateKey.export({ format: "jwk" }), kid, use: "sig", alg: "RS256" };
const resource = "urn:proxytorrent";

const provider = new Provider(issuer, {
  jwks: { keys: [key] },
  clients: [
    {
      client_id: "app",
      client_secret: "app-secret",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    },
  ],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      getResourceServerInfo: () => ({
        scope: "",
        audience: "proxytorrent",
        accessTokenTTL: 60,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
  // As `preferred_username` of Keycloak.
  extraTokenClaims: () => ({ preferred_username: "alice" }),
});
provider.listen(Number(port), "127.0.0.1");
