import { once } from "node:events"
import { writeFileSync } from "node:fs"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { exportJWK, generateKeyPair, SignJWT } from "jose"
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { type Plane, startPlane } from "./plane.ts"
import { eventually } from "./world.ts"

const audience = "https://fleet.example"

/**
 * A real issuer: keys, their publication, tokens. What it does with a question about them is the
 * test's to say.
 */
async function startIssuer() {
  const pairs = new Map<string, Awaited<ReturnType<typeof generateKeyPair>>>()
  const add = async (kid: string, algorithm = "ES256"): Promise<void> =>
    void pairs.set(kid, await generateKeyPair(algorithm))
  await add("k1")
  const state = {
    mode: "well" as "well" | "hangs" | "fails" | "lies" | "floods" | "redirects",
    questions: 0,
  }
  const held = new Set<import("node:http").ServerResponse>()
  const server: Server = createServer(async (request, response) => {
    state.questions++
    if (state.mode === "hangs") return void held.add(response)
    if (state.mode === "fails") return void response.writeHead(500).end()
    if (state.mode === "redirects")
      return void response.writeHead(302, { location: `${issuer}/elsewhere` }).end()
    if (state.mode === "floods") {
      response.on("error", () => {})
      for (let at = 0; at < 40; at++) response.write("x".repeat(65_536))
      return void response.end()
    }
    const said =
      request.url === "/realm/.well-known/openid-configuration"
        ? {
            issuer: state.mode === "lies" ? "https://other.example" : issuer,
            jwks_uri: `${issuer}/keys`,
          }
        : {
            keys: await Promise.all(
              [...pairs].map(async ([kid, { publicKey }]) => ({
                ...(await exportJWK(publicKey)),
                kid,
              })),
            ),
          }
    response.setHeader("content-type", "application/json").end(JSON.stringify(said))
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  // TCP, so no path.
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}/realm`
  return {
    issuer,
    state,
    add,
    remove: (kid: string) => pairs.delete(kid),
    /** A token as it should be, but for what is said. */
    async token(
      claims: Record<string, unknown> = {},
      { kid = "k1", alg = "ES256" } = {},
    ): Promise<string> {
      const pair = pairs.get(kid)
      if (!pair) throw new Error(`no key ${kid}`)
      const now = Math.floor(Date.now() / 1000)
      const whole = {
        iss: issuer,
        aud: audience,
        sub: "ann",
        exp: now + 300,
        iat: now,
        groups: ["developers"],
        ...claims,
      }
      const said = Object.fromEntries(
        Object.entries(whole).filter(([, value]) => value !== undefined),
      )
      return new SignJWT(said).setProtectedHeader({ alg, kid }).sign(pair.privateKey)
    },
    async close() {
      for (const response of held) response.destroy()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
type Issuer = Awaited<ReturnType<typeof startIssuer>>

let its: Issuer
let plane: Plane
const policyOf = (roles: string, more = ""): string =>
  `oidc:\n  issuer: ${its.issuer}\n  audience: ${audience}\n  roles: ${roles}\n${more}`
const mapped = "{ claim: groups, map: { watchers: viewer, developers: operator, owners: admin } }"

beforeAll(async () => {
  its = await startIssuer()
})
afterAll(() => its.close())
// Each begins with a plane that has asked the issuer nothing.
beforeEach(async () => {
  its.state.mode = "well"
  its.state.questions = 0
  plane = await startPlane({ boss: [] }, { policy: policyOf(mapped) })
  return () => plane[Symbol.asyncDispose]()
})
const ask = (bearer: string | undefined) => plane.rest(bearer, "GET", "/v1/fleet")
const administer = (bearer: string) => plane.rest(bearer, "GET", "/v1/tokens")

describe("a token of the issuer", () => {
  it("makes whom the policy says what it says: the highest of several, nobody without", async () => {
    const roleOf = async (groups: unknown): Promise<string> => {
      const bearer = await its.token({ groups })
      if ((await administer(bearer)).status === 200) return "admin"
      const told = await plane.rest(bearer, "POST", "/v1/messages", {
        to: ["boss"],
        text: "Hello",
        dryRun: true,
      })
      if (told.status === 200) return "operator"
      const { status, json } = await ask(bearer)
      return status === 200 ? "viewer" : `${status} ${json.error.code}`
    }
    expect(await roleOf(["watchers"])).toBe("viewer")
    expect(await roleOf("developers")).toBe("operator")
    expect(await roleOf(["watchers", "owners", "developers"])).toBe("admin")
    for (const none of [[], undefined, ["Owners"], ["toString"], 7, { owners: true }, [["owners"]]])
      expect(await roleOf(none)).toBe("403 Forbidden")
    const { json } = await ask(await its.token({ groups: ["strangers"] }))
    expect(json.error.message).toContain("knows you as ann")
    expect(json.error.next).toMatch(/oidc\.roles\.map.*strangers/)
  })

  it("is named in the audit as one whom nobody can make a token for", async () => {
    const say = { to: ["boss"], text: "Hello", waitSeconds: 0 }
    await plane.rest(await its.token(), "POST", "/v1/messages", say)
    await plane.rest(
      await its.token({ sub: "7c1f", preferred_username: "Ann Lee" }),
      "POST",
      "/v1/messages",
      say,
    )
    const { calls } = (await plane.rest(plane.local, "GET", "/v1/audit")).json
    expect(calls).toMatchObject([
      { who: "operator Ann Lee (oidc:7c1f)", tool: "message_instances", verdict: "done" },
      { who: "operator oidc:ann", tool: "message_instances", verdict: "done" },
    ])
  })

  const now = () => Math.floor(Date.now() / 1000)
  it.each<[string, () => Record<string, unknown>, RegExp]>([
    ["of another issuer", () => ({ iss: "https://other.example" }), /another issuer/],
    ["of an issuer that only begins alike", () => ({ iss: `${its.issuer}/` }), /another issuer/],
    ["for another audience", () => ({ aud: "https://elsewhere.example" }), /aud/],
    ["for no audience", () => ({ aud: undefined }), /aud/],
    ["that has expired", () => ({ exp: now() - 31 }), /expired/],
    ["that never expires", () => ({ exp: undefined }), /exp/],
    ["that is not valid yet", () => ({ nbf: now() + 300 }), /nbf/],
    ["of nobody", () => ({ sub: undefined }), /sub/],
    ["of somebody whose name would break a line", () => ({ sub: "ann\nroot" }), /subject/],
  ])("is refused: one %s", async (_, claims, message) => {
    const { status, json, headers } = await ask(await its.token(claims()))
    expect([status, json.error.code]).toEqual([401, "Unauthenticated"])
    expect(json.error.message).toMatch(message)
    expect(headers.get("www-authenticate")).toContain('error="invalid_token"')
  })

  it("is refused when it is signed by another, or by a secret, or by none, or was changed", async () => {
    const { privateKey } = await generateKeyPair("ES256")
    const claims = {
      iss: its.issuer,
      aud: audience,
      sub: "ann",
      exp: now() + 300,
      groups: ["owners"],
    }
    const part = (value: unknown): string =>
      Buffer.from(JSON.stringify(value)).toString("base64url")
    const [head = "", body = "", signature = ""] = (await its.token()).split(".")
    for (const bearer of [
      await new SignJWT(claims).setProtectedHeader({ alg: "ES256", kid: "k1" }).sign(privateKey),
      await new SignJWT(claims)
        .setProtectedHeader({ alg: "ES256", kid: "unknown" })
        .sign(privateKey),
      await new SignJWT(claims)
        .setProtectedHeader({ alg: "HS256", kid: "k1" })
        .sign(Buffer.from(its.issuer.padEnd(32))),
      `${part({ alg: "none" })}.${part(claims)}.`,
      `${head}.${part(claims)}.${signature}`,
      `${head}.${body}.${signature.slice(0, -4)}`,
      "a.b.c",
      "..",
    ]) {
      const { status, json } = await ask(bearer)
      expect([status, json.error.code]).toEqual([401, "Unauthenticated"])
    }
  })

  it("outlives its end by the tolerance, and the answers that it was given end then", async () => {
    expect((await ask(await its.token({ exp: now() - 10 }))).status).toBe(200)
    const response = await fetch(`${plane.url}/v1/instances:wait`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${await its.token({ exp: now() - 20 })}`,
        "content-type": "application/json",
        accept: "text/event-stream",
      },
      body: JSON.stringify({ names: ["boss"], until: "finished", timeoutSeconds: 600 }),
    })
    expect(response.status).toBe(200)
    await expect(response.text()).rejects.toThrow()
  })
})

describe("the issuer's keys", () => {
  it("are asked for once, not for each call, nor for tokens that are worth nothing anyhow", async () => {
    for (let count = 0; count < 5; count++)
      await ask(await its.token({ iss: "https://other.example" }))
    expect(its.state.questions).toBe(0)
    for (let count = 0; count < 20; count++)
      expect((await ask(await its.token({ sub: `p${count}` }))).status).toBe(200)
    expect(its.state.questions).toBe(2)
    // A key that it does not know makes it look again, but not each time.
    await its.add("k2")
    const stranger = await its.token({}, { kid: "k2" })
    for (let count = 0; count < 20; count++) await ask(stranger)
    expect(its.state.questions).toBeLessThanOrEqual(3)
    its.remove("k2")
  })

  it.each(["fails", "lies", "floods", "redirects"] as const)(
    "are not there when it %s: said so, not called a wrong token, and well again",
    async (mode) => {
      its.state.mode = mode
      const bearer = await its.token()
      const { status, json } = await ask(bearer)
      expect([status, json.error.code]).toEqual([503, "Unavailable"])
      expect(json.error.message).toContain("did not give its keys")
      // All others go on.
      expect((await ask(plane.local)).status).toBe(200)
      its.state.mode = "well"
      await eventually(async () => (await ask(bearer)).status === 200, "the keys")
    },
  )

  it("may hang: that delays nobody else, is over soon, and then told at once", async () => {
    its.state.mode = "hangs"
    const person = await plane.tokenOf("bea", "viewer")
    const bearers = await Promise.all(
      Array.from({ length: 30 }, (_, at) => its.token({ sub: `p${at}` })),
    )
    let over = 0
    const waiting = bearers.map((bearer) =>
      ask(bearer).then(({ status }) => {
        over++
        return status
      }),
    )
    await eventually(() => its.state.questions > 0, "the question")
    for (let count = 0; count < 4; count++)
      for (const other of [person, plane.local, plane.credentialOf("boss")])
        expect((await ask(other)).status).toBe(200)
    expect(over).toBe(0)
    expect(new Set(await Promise.all(waiting))).toEqual(new Set([503]))
    const questions = its.state.questions
    expect((await ask(await its.token({ sub: "late" }))).status).toBe(503)
    expect(its.state.questions).toBe(questions)
  })

  it("count no more when the policy names another issuer, nor a role that it took away", async () => {
    const bearer = await its.token()
    expect((await ask(bearer)).status).toBe(200)
    const path = join(plane.directory, "config/policy.yaml")
    writeFileSync(path, policyOf("{ map: { developers: viewer } }"))
    await eventually(
      async () =>
        (
          await plane.rest(bearer, "POST", "/v1/messages", {
            to: ["boss"],
            text: "x",
            dryRun: true,
          })
        ).status === 403,
      "the other role",
    )
    writeFileSync(path, "{}\n")
    await eventually(async () => (await ask(bearer)).status === 401, "no issuer")
  })
})

describe("a client that knows only the address", () => {
  it("finds the issuer, from the challenge or the well-known place", async () => {
    const { status, headers } = await ask(undefined)
    expect([status, headers.get("www-authenticate")]).toEqual([
      401,
      `Bearer resource_metadata="${plane.url}/.well-known/oauth-protected-resource"`,
    ])
    for (const resource of ["", "/mcp"]) {
      const { status: found, json } = await plane.rest(
        undefined,
        "GET",
        `/.well-known/oauth-protected-resource${resource}`,
      )
      expect([found, json]).toMatchObject([
        200,
        {
          resource: `${plane.url}${resource}`,
          authorization_servers: [its.issuer],
          bearer_methods_supported: ["header"],
        },
      ])
    }
    expect((await plane.rest(undefined, "POST", "/mcp", {})).headers.get("www-authenticate")).toBe(
      `Bearer resource_metadata="${plane.url}/.well-known/oauth-protected-resource/mcp"`,
    )
    expect(
      (await plane.rest(undefined, "GET", "/.well-known/oauth-protected-resource/v1")).status,
    ).toBe(404)
  })

  it("finds the public address there, which Host and Origin may say then, and no other", async () => {
    await using here = await startPlane(
      {},
      { policy: policyOf(mapped, "publicUrl: https://fleet.example\n") },
    )
    const by = (headers: Record<string, string>) =>
      here.plane.app.request("http://x/v1/fleet", { headers })
    const authorization = `Bearer ${here.local}`
    const metadata = await here.plane.app.request(
      "http://x/.well-known/oauth-protected-resource/mcp",
      {
        headers: { host: "fleet.example" },
      },
    )
    expect(await metadata.json()).toMatchObject({ resource: "https://fleet.example/mcp" })
    for (const headers of [
      { host: "fleet.example" },
      { host: "fleet.example:443", origin: "https://fleet.example" },
    ])
      expect((await by({ ...headers, authorization })).status).toBe(200)
    for (const headers of [
      { host: "evil.example" },
      { host: "fleet.example:8443" },
      { host: "10.0.0.1" },
      { host: "fleet.example", origin: "http://fleet.example" },
      { host: "fleet.example", origin: "https://evil.example" },
      { host: "fleet.example", origin: "null" },
    ])
      expect((await by({ ...headers, authorization })).status).toBe(403)
  })

  it("finds nothing where there is no issuer", async () => {
    await using here = await startPlane({})
    expect(
      (await here.rest(undefined, "GET", "/.well-known/oauth-protected-resource")).status,
    ).toBe(404)
    expect((await here.rest(undefined, "GET", "/v1/fleet")).headers.get("www-authenticate")).toBe(
      "Bearer",
    )
  })
})
