import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { authenticateByMachineToken } from "../../src/api/authenticate.ts"
import { createCredentials } from "../../src/api/credentials.ts"
import { readToken } from "../../src/api/machine-token.ts"
import { clean } from "../../src/core/view.ts"
import { uid } from "../contract/harness.ts"
import { admin } from "./fleet.ts"

/** Our own tokens are known when one is seen; those of before they had a prefix stay valid. */

let state: string
beforeEach(() => {
  state = mkdtempSync(join(tmpdir(), "bb5-tokens-"))
})
afterEach(() => rmSync(state, { recursive: true }))

describe("the machine's token", () => {
  const callerOf = async (token: string, bearer: string) =>
    (await authenticateByMachineToken(token, admin)(bearer, new AbortController().signal))?.who

  it("begins with a prefix of its own, is no person's, and stays as it is", async () => {
    const token = readToken(state)
    expect(token).toMatch(/^bb5m_[\w-]{43}$/)
    expect(readToken(state)).toBe(token)
    expect(readFileSync(join(state, "token"), "utf8").trim()).toBe(token)
    expect(clean(`curl -H "Authorization: ${token}"`)).toBe('curl -H "Authorization: [redacted]"')
    expect(await callerOf(token, token)).toBe(admin)
    expect(await callerOf(token, `${token}x`)).toBeUndefined()
  })

  it("of before stays valid, for it stands in the headers of people's clients", async () => {
    const former = "aB3".repeat(15)
    writeFileSync(join(state, "token"), `${former}\n`)
    expect(readToken(state)).toBe(former)
    expect(await callerOf(former, former)).toBe(admin)
  })
})

describe("a run's credential", () => {
  it("begins with a prefix of its own, and one of before is good for the same run", () => {
    const { mint, verify } = createCredentials(state)
    const holder = { name: "one", uid: uid("u-one"), place: "p1" }
    const credential = mint(holder)
    expect(credential).toMatch(/^bb5c_/)
    expect(clean(`x ${credential} y`)).toBe("x [redacted] y")
    expect(verify(credential)).toEqual(holder)
    expect(verify(credential.slice("bb5c_".length))).toEqual(holder)
    for (const forged of [
      `bb5c_${credential}`,
      `bb5m_${credential.slice(5)}`,
      credential.slice(0, -1),
      `${credential}.x`,
    ])
      expect([forged, verify(forged)]).toEqual([forged, undefined])
  })
})
