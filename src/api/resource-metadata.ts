/**
 * Protected-resource metadata (RFC 9728): tells a client that knows only an address who issues
 * tokens for it.
 */

export const metadataPath = "/.well-known/oauth-protected-resource"
/** MCP clients ask for the metadata of the very path that they call. */
const resources: readonly string[] = ["", "/mcp"]

/** The metadata of the resource whose path follows the well-known one; undefined without any. */
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
