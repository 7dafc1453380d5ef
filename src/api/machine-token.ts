import { randomBytes } from "node:crypto"
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import { join } from "node:path"
import { errorCode } from "../core/error-code.ts"
import { Fault } from "../core/faults.ts"
import { machineTokenPrefix } from "../core/secrets.ts"

const tokenShape = /^[\w-]{43,}$/

/**
 * The machine's token for calls over TCP: 256 random bits in `<stateDirectory>/token`, made when it
 * is first read. One from before it had a prefix stays valid: it is in the headers of people's
 * clients. @throws Invalid when the file holds something else.
 */
export function readToken(stateDirectory: string): string {
  const path = join(stateDirectory, "token")
  mkdirSync(stateDirectory, { recursive: true, mode: 0o700 })
  const draft = `${path}.${process.pid}.${randomBytes(4).toString("hex")}`
  // On a full disk the token that is there must do.
  if (!existsSync(path)) makeToken(path, draft)
  chmodSync(path, 0o600)
  const token = readFileSync(path, "utf8").trim()
  if (tokenShape.test(token)) return token
  throw new Fault(
    "Invalid",
    `${path} does not hold a token of at least 256 bits.`,
    "Remove the file, then start again: a new token is made.",
  )
}
function makeToken(path: string, draft: string): void {
  try {
    writeFileSync(draft, `${machineTokenPrefix}${randomBytes(32).toString("base64url")}\n`, {
      mode: 0o600,
      flag: "wx",
    })
    // A link appears with its contents, so that nobody reads half a token; it fails when another
    // process was first.
    linkSync(draft, path)
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error
  } finally {
    rmSync(draft, { force: true })
  }
}
