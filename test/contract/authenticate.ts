/** What must hold of whoever says who a bearer stands for. */
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import type { Authenticate } from "../../src/core/authenticate-port.ts"
import type { Uid } from "../../src/core/instance.ts"
import type { Principal } from "../../src/core/principal.ts"
import type { Role } from "../../src/core/role.ts"
import { expectFault } from "./expect-fault.ts"
import { startMs } from "./harness.ts"

/** The world that it is asked about. */
export interface AuthenticateWorld {
  readonly authenticate: Authenticate
  /** This machine's own token, where there is one. */
  readonly machine?: { readonly bearer: string; readonly who: Principal }
  /** A person's token; `expiresAtMs` is later than `startMs`. */
  token(name: string, role: Role, expiresAtMs?: number): Promise<string>
  revoke(name: string): Promise<void>
  /** A token of the issuer, which gives `developers` the role operator. */
  issued(claims?: Record<string, unknown>): Promise<string>
  /** From now on the issuer takes questions and answers none. */
  hangIssuer(): void
  /** How often the issuer was asked something. */
  issuerQuestions(): number
  /** An instance whose run has its place, with the credential for it. */
  instance(name: string): Promise<{ readonly uid: Uid; readonly credential: string }>
  /** A credential for the run that starts next, whose start is not written yet. */
  upcoming(name: string): Promise<string>
  /** Its run ends and another begins, at another place. */
  moveOn(name: string): Promise<string>
  /** Removed, and its name used again. */
  replace(name: string): Promise<void>
  advance(ms: number): void
  close(): Promise<void>
}

export function describeAuthenticate(
  adapter: string,
  open: () => Promise<AuthenticateWorld>,
): void {
  describe(`Authenticate: ${adapter}`, () => {
    let world: AuthenticateWorld
    const never = new AbortController().signal
    const ask = (bearer: string, signal = never) => world.authenticate(bearer, signal)

    beforeEach(async () => {
      world = await open()
    })
    afterEach(() => world.close())

    it("knows the machine's token, and says that it counts on this machine alone", async () => {
      if (!world.machine) return
      const { bearer, who } = world.machine
      expect(await ask(bearer)).toEqual({ who, localOnly: true })
      for (const other of [`${bearer}x`, bearer.slice(1), bearer.toUpperCase()])
        expect(await ask(other)).toBeUndefined()
    })

    it.each(["viewer", "operator", "admin"] as const)(
      "knows the person of a token, and that they are %s",
      async (role) => {
        const bearer = await world.token("ann", role)
        expect(await ask(bearer)).toEqual({ who: { kind: "human", id: "ann", role } })
      },
    )

    it("refuses a token as soon as it is revoked, and when it expires, which it foretells", async () => {
      const [revoked, expiring] = [
        await world.token("ann", "operator"),
        await world.token("bea", "viewer", startMs + 60_000),
      ]
      expect(await ask(expiring)).toMatchObject({ untilMs: startMs + 60_000 })
      await world.revoke("ann")
      await expectFault(ask(revoked), "Unauthenticated")
      world.advance(60_000)
      await expectFault(ask(expiring), "Unauthenticated")
    })

    it("knows whom the issuer vouches for, and until when", async () => {
      const exp = startMs / 1000 + 300
      const found = await ask(await world.issued({ sub: "cy", exp }))
      expect(found?.who).toEqual({ kind: "human", id: "oidc:cy", role: "operator" })
      expect(found?.untilMs).toBeGreaterThanOrEqual(exp * 1000)
      await expectFault(ask(await world.issued({ groups: ["strangers"] })), "Forbidden")
      await expectFault(ask(await world.issued({ exp: startMs / 1000 - 60 })), "Unauthenticated")
      await expectFault(ask(await world.issued({ aud: "another" })), "Unauthenticated")
    })

    it("believes the issuer's word no longer than the token lasts", async () => {
      const bearer = await world.issued({ exp: startMs / 1000 + 5 })
      const { untilMs = 0 } = (await ask(bearer)) ?? {}
      world.advance(untilMs - startMs)
      await expectFault(ask(bearer), "Unauthenticated")
    })

    it("asks once for all who come with the same bearer, and not again soon", async () => {
      const bearer = await world.issued()
      const found = await Promise.all(Array.from({ length: 20 }, () => ask(bearer)))
      expect(new Set(found.map((one) => one?.who.id))).toEqual(new Set(["oidc:cy"]))
      const questions = world.issuerQuestions()
      expect(questions).toBeGreaterThan(0)
      await ask(bearer)
      expect(world.issuerQuestions()).toBe(questions)
    })

    it("gives up on an issuer that hangs, at once for a caller who leaves, and delays nobody else", async () => {
      world.hangIssuer()
      const [person, { credential }] = [
        await world.token("ann", "viewer"),
        await world.instance("one"),
      ]
      const leaving = new AbortController()
      const bearer = await world.issued()
      const waiting = ask(bearer)
      const left = ask(bearer, leaving.signal)
      waiting.catch(() => {})
      while (world.issuerQuestions() === 0) await new Promise((resolve) => setImmediate(resolve))
      leaving.abort()
      await expectFault(left, "Unavailable")
      expect((await ask(person))?.who.id).toBe("ann")
      expect((await ask(credential))?.who.id).toBe("one")
      await expectFault(waiting, "Unavailable")
    })

    it("knows an instance by the credential of its current place alone", async () => {
      const { uid, credential } = await world.instance("one")
      const found = await ask(credential)
      expect(found).toMatchObject({ who: { kind: "instance", id: "one", uid, lineage: [] } })
      expect(found?.place).toEqual(expect.any(String))
      const next = await world.upcoming("one")
      await expectFault(ask(next), "Unavailable")
      expect(await ask(credential)).toEqual(found)
      const moved = await world.moveOn("one")
      await expectFault(ask(credential), "Unauthenticated")
      const there = await ask(moved)
      expect(there?.who).toEqual(found?.who)
      expect(there?.place).not.toBe(found?.place)
    })

    it("takes no later instance of the same name for the one that had the credential", async () => {
      const { credential } = await world.instance("one")
      await world.replace("one")
      await expectFault(ask(credential), "Unauthenticated")
    })

    it("knows nobody by what is none of them, however long it is", async () => {
      const { credential } = await world.instance("one")
      const token = await world.token("ann", "admin")
      for (const garbage of [
        "",
        ".",
        "..",
        "a.b",
        "bb5c_",
        "x".repeat(65_536),
        `${credential}x`,
        `${credential}.${"x".repeat(65_536)}`,
        `${credential.split(".")[0]}.`,
        credential.toUpperCase(),
        token.slice(1),
      ])
        expect(await ask(garbage).catch((error) => error.code)).toBeOneOf([
          undefined,
          "Unauthenticated",
        ])
      expect(await ask(`bb5_${"x".repeat(65_536)}`).catch((error) => error.code)).toBeOneOf([
        undefined,
        "Unauthenticated",
      ])
    })
  })
}
