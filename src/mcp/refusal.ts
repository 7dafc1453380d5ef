import { asFault } from "../core/faults.ts"
import { clean } from "../core/view.ts"

/** Why a request is answered by an error rather than a result: both eras' SDKs send `code` and `message` of what is thrown. */
export class Refusal extends Error {
  /** As JSON-RPC and MCP number them. */
  readonly code: number
  constructor(code: number, message: string) {
    super(message)
    this.name = "Refusal"
    this.code = code
  }
}

export const invalidParams = -32602
const notFound = -32002
const internal = -32603

/** Any failure of a resource, a prompt or a completion; tools answer theirs as results. */
export function asRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error
  const { code, message, next } = asFault(error)
  const text = clean(`${message} Next: ${next}`)
  return new Refusal(code === "NotFound" ? notFound : code === "Invalid" ? invalidParams : internal, text)
}
