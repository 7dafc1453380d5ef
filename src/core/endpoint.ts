/** How a supervisor, a client or a program reaches the control plane. */
export interface Endpoint {
  /**
   * `http://` or `https://` with a host, or `unix:` followed by the absolute path of a socket, as
   * it is: nothing in it is escaped.
   */
  readonly url: string
  /**
   * The bearer to connect with, asked for before every connect: a mounted token is replaced every
   * few minutes. Undefined where the socket's directory is proof enough. It may take a while or
   * throw; callers bound it.
   */
  credential(): Promise<string | undefined>
  /** PEM file of the only authorities that the server's certificate may come from. */
  readonly caFile?: string
}
/** Where an endpoint is, without the right to enter. */
export type EndpointAddress = Pick<Endpoint, "url" | "caFile">

const socketScheme = "unix:"
export const socketUrl = (path: string): string => socketScheme + path
/** Undefined when the URL names no socket. */
export const socketPathIn = (url: string): string | undefined =>
  url.startsWith(socketScheme) ? url.slice(socketScheme.length) : undefined

/** For people: `the socket /run/serve.sock`, or the URL. */
export const describeEndpoint = ({ url }: EndpointAddress): string => {
  const path = socketPathIn(url)
  return path === undefined ? url : `the socket ${path}`
}

/** One whose bearer stays the same. */
export const endpointAt = (url: string, bearer?: string): Endpoint => ({
  url,
  credential: async () => bearer,
})
