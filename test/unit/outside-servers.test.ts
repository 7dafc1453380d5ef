import { readFileSync, rmSync, writeFileSync } from "node:fs"
import { mkdtemp } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { parseYaml } from "../../src/settings/followed-file.ts"
import {
  followOutsideServers,
  outsideServersSchema,
  secretsOf,
  serversFor,
} from "../../src/settings/outside-servers.ts"

const parsed = (text: string) => {
  const found = parseYaml(outsideServersSchema, text)
  if ("refused" in found) throw new Error(found.refused)
  return found.value
}
const two = parsed(`
servers:
  files: { command: npx, args: [files, "{tree}", 7], projects: [shop] }
  hub:
    url: https://hub.example/\${PLACE}
    headers: { Authorization: "Bearer \${HUB_TOKEN}", X-Plain: yes }
  db: { command: db, env: { PASSWORD: "\${DB_PASSWORD}", PORT: 5432 } }
`)

describe("the file of MCP servers", () => {
  it.each<[string, RegExp]>([
    [
      "servers:\n  blackbox5: { command: x }\n",
      /^line 1: servers: the name blackbox5 is reserved$/,
    ],
    ["servers:\n  a: {}\n", /^line 2: servers.a.command: give either command or url$/],
    [
      "servers:\n  a:\n    url: https://a\n    command: x\n",
      /^line 4: servers.a.command: give either command or url$/,
    ],
    [
      "servers:\n  a:\n    command: x\n    url: ftp://a\n",
      /line 4: servers.a.url: must be an http or https URL/,
    ],
    [
      `servers:\n  a:\n    command: x\n    args: ['\${T}']\n`,
      /^line 4: servers.a.args: anyone can see a program's arguments/,
    ],
    [
      `servers:\n  a:\n    command: x\n    env: { P: '\${PATH}' }\n`,
      /^line 4: servers.a.env: agents need PATH themselves/,
    ],
    [
      `servers:\n  a:\n    url: https://a\n    headers: { K: '\${ANTHROPIC_API_KEY}' }\n`,
      /^line 4: .*agents need ANTHROPIC_API_KEY/,
    ],
    [
      `servers:\n  a:\n    command: tools/server.js\n    env: { P: '\${T}' }\n`,
      /^line 3: .*a program with secrets must be an absolute path/,
    ],
    [
      `servers:\n  a:\n    command: ./server.js\n    env: { P: '\${T}' }\n`,
      /^line 3: .*the name of an installed program/,
    ],
    ["servers:\n  a:\n    command: x\n    projects: [../b]\n", /^line 4: servers.a.projects.0: /],
    ["server: {}\n", /^line 1: server: /],
  ])("refuses %j, with its line", (text, words) => {
    expect(parseYaml(outsideServersSchema, text)).toEqual({ refused: expect.stringMatching(words) })
  })

  it("fills in secrets, and knows which servers have any", () => {
    const environment = { HUB_TOKEN: "t", PLACE: "p", DB_PASSWORD: "d" }
    expect(serversFor("shop", two, environment)).toEqual({
      servers: [
        {
          name: "files",
          secret: false,
          at: { command: "npx", args: ["files", "{tree}", "7"], env: {} },
        },
        {
          name: "hub",
          secret: true,
          at: {
            url: "https://hub.example/p",
            headers: { Authorization: "Bearer t", "X-Plain": "yes" },
          },
        },
        {
          name: "db",
          secret: true,
          at: { command: "db", args: [], env: { PASSWORD: "d", PORT: "5432" } },
        },
      ],
      left: [],
    })
    expect(secretsOf(two).toSorted()).toEqual(["DB_PASSWORD", "HUB_TOKEN", "PLACE"])
  })

  it("gives a project its own servers, and leaves out those whose secret is not there", () => {
    const { servers, left } = serversFor("other", two, {
      HUB_TOKEN: "t",
      PLACE: "p",
      DB_PASSWORD: "",
    })
    expect(servers.map(({ name }) => name)).toEqual(["hub"])
    expect(left).toEqual([
      { name: "db", why: "DB_PASSWORD is not set in the environment of blackbox5 serve" },
    ])
  })

  it("has an example that is valid", () => {
    const example = parsed(readFileSync("mcp-servers.example.yaml", "utf8"))
    expect(
      serversFor("shop", example, { GITHUB_MCP_TOKEN: "t" }).servers.map(({ name, secret }) => [
        name,
        secret,
      ]),
    ).toEqual([
      ["github", true],
      ["filesystem", false],
      ["serena", false],
    ])
  })

  it("is read again when it changes; an invalid one is refused, and the one before stays", async () => {
    const directory = await mkdtemp(join(tmpdir(), "bb5-servers-"))
    const ended = new AbortController()
    const reports: string[] = []
    const file = followOutsideServers(
      directory,
      (message) => void reports.push(message),
      ended.signal,
    )
    const path = join(directory, "mcp-servers.yaml")
    const until = async (holds: () => boolean): Promise<void> => {
      while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
    }
    expect(file.current()).toEqual({ servers: {} })
    writeFileSync(path, "servers:\n  a: { command: x }\n")
    await until(() => "a" in file.current().servers)
    writeFileSync(path, "servers:\n  b: { url: nowhere }\n")
    await until(() => file.refused() !== undefined)
    expect(file.refused()).toMatch(/mcp-servers\.yaml: line 2: servers\.b\.url/)
    expect(reports).toEqual([
      expect.stringMatching(
        /^mcp-servers\.yaml is invalid; the previous version is still in force\./,
      ),
    ])
    expect(Object.keys(file.current().servers)).toEqual(["a"])
    ended.abort()
    rmSync(directory, { recursive: true })
  })
})
