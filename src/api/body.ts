import { Fault } from "../core/faults.ts"

const bodyBytesMax = 1_048_576
/**
 * A larger body is read to its end, up to here, and thrown away: a sender that is cut off sees a
 * broken pipe instead of the answer.
 */
const discardedBytesMax = 16 * 1_048_576

/** Only this content type makes a browser ask before it sends a page's call. */
export const isJsonRequest = (request: Request): boolean =>
  request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() === "application/json"

/** The parsed body of a request. @throws Invalid, TooLarge. */
export async function readJson(request: Request): Promise<unknown> {
  if (!isJsonRequest(request))
    throw new Fault(
      "Invalid",
      "Content-Type must be application/json.",
      "Send the body as JSON, with `Content-Type: application/json`.",
    )
  const tooLarge = () =>
    new Fault(
      "TooLarge",
      `The body is larger than ${bodyBytesMax} bytes.`,
      "Send less in one call.",
    )
  const length = request.headers.get("content-length")
  if (Number(length) > discardedBytesMax) throw tooLarge()
  // Read whole, a body of a known length costs a fraction of what a stream does.
  if (length !== null && Number(length) <= bodyBytesMax) return parsed(await request.text())
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of request.body ?? []) {
    bytes += chunk.byteLength
    if (bytes > discardedBytesMax) throw tooLarge()
    if (bytes <= bodyBytesMax) chunks.push(chunk)
  }
  if (bytes > bodyBytesMax) throw tooLarge()
  return parsed(Buffer.concat(chunks).toString("utf8"))
}
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Fault("Invalid", "The body is not valid JSON.", "Send a JSON object.")
  }
}

/** The JSON object in the body of a call. @throws Invalid, TooLarge. */
export async function readBody(request: Request): Promise<Record<string, unknown>> {
  const body = await readJson(request)
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw new Fault(
      "Invalid",
      "The body is not a JSON object.",
      "Send a JSON object with the input fields of the operation.",
    )
  return { ...body }
}
