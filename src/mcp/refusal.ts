import { randomBytes } from "node:crypto"
import { asFault, type Fault, type FaultCode } from "../core/faults.ts"
import { clean, fenced } from "../core/view.ts"

/** Answers a request with an error. The SDKs of both eras send `code` and `message`. */
export class Refusal extends Error {
  /** A code of JSON-RPC or MCP. */
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

/** An error as a model reads it. What others said about it comes last, fenced. */
export function renderFault({ message, next, untrusted }: Fault): string {
  const ours = clean(`${message} Next: ${next}`)
  return untrusted === undefined
    ? ours
    : `${ours}\n${fenced(clean(untrusted), randomBytes(6).toString("hex"))}`
}

/** For failures of resources, prompts and completions; a tool returns its failure as a result. */
export function asRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error
  const fault = asFault(error)
  const codes: Partial<Record<FaultCode, number>> = { NotFound: notFound, Invalid: invalidParams }
  return new Refusal(codes[fault.code] ?? internal, renderFault(fault))
}
