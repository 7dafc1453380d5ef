/** The local ways to authenticate, over each adapter's tokens and instances. */
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { exportJWK, generateKeyPair, SignJWT } from "jose"
import { createMemoryBackend } from "../../src/adapters/memory/backend.ts"
import { connectMemory } from "../../src/adapters/memory/connect.ts"
import { openDatabase } from "../../src/adapters/sqlite/open.ts"
import { sqliteStore } from "../../src/adapters/sqlite/store.ts"
import { sqliteTokens } from "../../src/adapters/sqlite/tokens.ts"
import {
  authenticateByFirst,
  authenticateByMachineToken,
  authenticateByToken,
} from "../../src/api/authenticate.ts"
import { authenticateByCredential, createCredentials } from "../../src/api/credentials.ts"
import { readToken } from "../../src/api/machine-token.ts"
import { authenticateByIssuer } from "../../src/api/oidc.ts"
import type { Instances, Tokens } from "../../src/core/ports.ts"
import type { Principal } from "../../src/core/principal.ts"
import { type AuthenticateWorld, describeAuthenticate } from "./authenticate.ts"
import { aRun, aSpec, type ManualClock, manualClock, startMs } from "./harness.ts"

const admin: Principal = { kind: "human", id: "root", role: "admin" }
const audience = "https://fleet.example"

async function startIssuer() {
  const { privateKey, publicKey } = await generateKeyPair("ES256")
  const held: ServerResponse[] = []
  let hangs = false
  let questions = 0
  const server = createServer(async (request, response) => {
    questions++
    if (hangs) return void held.push(response)
    const keys = { keys: [{ ...(await exportJWK(publicKey)), kid: "k1" }] }
    const configuration = { issuer, jwks_uri: `${issuer}/keys` }
    response.end(JSON.stringify(request.url === "/keys" ? keys : configuration))
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}` // TCP, so no path
  return {
    issuer,
    questions: () => questions,
    hang() {
      hangs = true
    },
    issue: (claims: Record<string, unknown> = {}) =>
      new SignJWT({
        iss: issuer,
        aud: audience,
        sub: "cy",
        exp: startMs / 1000 + 300,
        groups: ["developers"],
        ...claims,
      })
        .setProtectedHeader({ alg: "ES256", kid: "k1" })
        .sign(privateKey),
    async close() {
      for (const response of held) response.destroy()
      await new Promise((resolve) => server.close(resolve).closeAllConnections())
    },
  }
}

interface Stores {
  readonly tokens: Tokens
  readonly instances: Instances
  /** The same data, as another process changes it. */
  readonly others: { readonly tokens: Tokens; readonly instances: Instances }
  close(): void
}

async function openWorld(
  openStores: (clock: ManualClock, directory: string) => Promise<Stores>,
): Promise<AuthenticateWorld> {
  const directory = mkdtempSync(join(tmpdir(), "bb5-authenticate-"))
  const clock = manualClock()
  const issuer = await startIssuer()
  const stores = await openStores(clock, directory)
  const { tokens, instances } = stores.others
  const credentials = createCredentials(directory)
  const token = readToken(directory)
  const oidc = {
    issuer: issuer.issuer,
    audience,
    roles: { claim: "groups", map: { developers: "operator" } },
  } as const
  const current = async (name: string) => {
    const instance = await instances.read(name)
    if (!instance) throw new Error(`${name} is not there`)
    return instance
  }
  const placeAt = (number: number) => ({ place: `place-${number}`, number })
  const numberOf = async (name: string): Promise<number> =>
    (await current(name)).status.run?.number ?? 0
  const mint = async (name: string, number: number): Promise<string> =>
    credentials.mint({ name, uid: (await current(name)).uid, ...placeAt(number) })
  const start = async (name: string, number: number): Promise<string> => {
    await instances.updateStatus(await current(name), "run", aRun(placeAt(number)))
    return mint(name, number)
  }
  return {
    authenticate: authenticateByFirst(
      authenticateByMachineToken(token, admin),
      authenticateByToken(stores.tokens),
      authenticateByIssuer(() => oidc, clock.nowMs),
      authenticateByCredential(credentials, stores.instances.read),
    ),
    machine: { bearer: token, who: admin },
    token: async (name, role, expiresAtMs) =>
      (
        await tokens.create(
          expiresAtMs === undefined ? { name, role } : { name, role, expiresAtMs },
        )
      ).bearer,
    async revoke(name) {
      await tokens.revoke(name)
    },
    issued: issuer.issue,
    hangIssuer: issuer.hang,
    issuerQuestions: issuer.questions,
    async instance(name) {
      const { uid } = await instances.create(name, aSpec())
      return { uid, credential: await start(name, 1) }
    },
    upcoming: async (name) => mint(name, (await numberOf(name)) + 1),
    moveOn: async (name) => start(name, (await numberOf(name)) + 1),
    async replace(name) {
      await instances.delete(await current(name))
      await instances.release(await current(name))
      await instances.create(name, aSpec())
      await start(name, 1)
    },
    advance: clock.advance,
    async close() {
      stores.close()
      await issuer.close()
      rmSync(directory, { recursive: true })
    },
  }
}

describeAuthenticate("one machine, SQLite", () =>
  openWorld(async (clock, directory) => {
    const database = await openDatabase(join(directory, "blackbox5.db"))
    const stores = {
      tokens: sqliteTokens(database, clock),
      instances: sqliteStore(database, clock),
    }
    return { ...stores, others: stores, close: database.close }
  }),
)

describeAuthenticate("two processes in memory, one of which has a cut feed", () =>
  openWorld(async (clock) => {
    const backend = createMemoryBackend(clock)
    const here = connectMemory(backend, { clock })
    const there = connectMemory(backend, { clock })
    await Promise.all([here.ready(), there.ready()])
    // What it is told of late must not decide whose credential counts.
    here.wire.cut()
    return {
      tokens: here.tokens,
      instances: here.instances,
      others: there,
      close() {
        here.close()
        there.close()
      },
    }
  }),
)
