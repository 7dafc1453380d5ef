import { randomBytes } from "node:crypto"
import { asFault, type Fault, type FaultCode } from "../core/faults.ts"
import { clean, fenced } from "../core/view.ts"

/**
 * Why a request is answered by an error rather than a result: both eras' SDKs send `code` and
 * `message` of what is thrown.
 */
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

/** An error as a model reads it; what others said about it stands last, fenced. */
export function wordsOfFault({ message, next, untrusted }: Fault): string {
  const ours = clean(`${message} Next: ${next}`)
  return untrusted === undefined
    ? ours
    : `${ours}\n${fenced(clean(untrusted), randomBytes(6).toString("hex"))}`
}

/** Any failure of a resource, a prompt or a completion; tools answer theirs as results. */
export function asRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error
  const fault = asFault(error)
  const codes: Partial<Record<FaultCode, number>> = { NotFound: notFound, Invalid: invalidParams }
  return new Refusal(codes[fault.code] ?? internal, wordsOfFault(fault))
}
