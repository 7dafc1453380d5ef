/**
 * How a client that knows only an address finds out who issues tokens for it: protected-resource
 * metadata, RFC 9728.
 */

export const metadataPath = "/.well-known/oauth-protected-resource"
/** What is protected: everything, and MCP, whose clients ask for the metadata of that very path. */
const resources: readonly string[] = ["", "/mcp"]

/** Of the resource whose path follows the well-known one; undefined where there is none. */
export const metadataOf = (base: string, path: string, issuer: string): object | undefined => {
  const resource = path.slice(metadataPath.length).replace(/\/$/, "")
  if (!resources.includes(resource)) return undefined
  return {
    resource: `${base}${resource}`,
    authorization_servers: [issuer],
    bearer_methods_supported: ["header"],
    resource_name: "Blackbox5",
  }
}

/** The `WWW-Authenticate` of a refusal: it names the metadata where there is an issuer. */
export function challengeOf(
  base: string,
  path: string,
  issuer: string | undefined,
  tokenCame: boolean,
): string {
  const resource =
    resources.find((one) => one !== "" && (path === one || path.startsWith(`${one}/`))) ?? ""
  const parts = [
    ...(tokenCame ? ['error="invalid_token"'] : []),
    ...(issuer === undefined ? [] : [`resource_metadata="${base}${metadataPath}${resource}"`]),
  ]
  return parts.length > 0 ? `Bearer ${parts.join(", ")}` : "Bearer"
}
