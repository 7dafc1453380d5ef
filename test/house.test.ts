import { execFileSync, spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, normalize } from "node:path"
import { describe, expect, it } from "vitest"
import { exportedTwice, importCircle, rules, subjectFault } from "./house-rules.ts"

/**
 * The house rules that a machine can check. Allowed imports are data: ARCHITECTURE.md shows the
 * same table.
 */

const files = execFileSync(
  "git",
  ["ls-files", "--cached", "--others", "--exclude-standard", "*.ts"],
  { encoding: "utf8" },
)
  .split("\n")
  .filter(Boolean)
const sources = files.filter((file) => /^(src|tools)\//.test(file))
const textOf = (file: string): string => readFileSync(file, "utf8")

/**
 * For each place, the places it may import from, besides itself. The first pattern that fits a file
 * counts.
 */
const places: readonly {
  name: string
  pattern: RegExp
  may: readonly string[]
  packages: RegExp
}[] = [
  { name: "core", pattern: /^src\/core\//, may: [], packages: /^zod$/ },
  { name: "tools", pattern: /^tools\//, may: ["core"], packages: /^zod$/ },
  {
    name: "controller",
    pattern: /^src\/control\/controller\.ts$/,
    may: ["core"],
    packages: /^node:/,
  },
  { name: "control", pattern: /^src\/control\//, may: ["core", "controller"], packages: /^node:/ },
  { name: "host", pattern: /^src\/host\//, may: ["core"], packages: /^(node:|zod$)/ },
  { name: "run", pattern: /^src\/run\//, may: ["core", "host"], packages: /^(node:|zod$)/ },
  {
    name: "settings",
    pattern: /^src\/settings\//,
    may: ["core"],
    packages: /^(node:|pino$|yaml$|zod$)/,
  },
  {
    name: "api",
    pattern: /^src\/api\//,
    may: ["core", "controller", "settings"],
    packages: /^(node:|hono|@hono\/|ws$|zod$|prom-client$|jose$|lru-cache$|rate-limiter-flexible$)/,
  },
  {
    name: "mcp",
    pattern: /^src\/mcp\//,
    may: ["core", "tools", "client", "settings"],
    packages: /^(node:|zod$|@modelcontextprotocol\/(sdk\/|server$))/,
  },
  {
    name: "client",
    pattern: /^src\/client\//,
    may: ["core", "settings", "host"],
    packages: /^(node:|eventsource-parser|zod$)/,
  },
  {
    name: "agent",
    pattern: /^src\/agent\//,
    may: ["core", "host", "run"],
    packages: /^(node:|hono|@hono\/|partysocket|ws$|zod$|@modelcontextprotocol\/sdk\/)/,
  },
  {
    name: "cron",
    pattern: /^src\/adapters\/cron\//,
    may: ["core"],
    packages: /^(croner|lru-cache)$/,
  },
  { name: "memory", pattern: /^src\/adapters\/memory\//, may: ["core"], packages: /^(node:|zod$)/ },
  { name: "sqlite", pattern: /^src\/adapters\/sqlite\//, may: ["core"], packages: /^(node:|zod$)/ },
  {
    name: "local",
    pattern: /^src\/adapters\/local\//,
    may: ["core", "host", "run"],
    packages: /^(node:|zod$)/,
  },
  {
    name: "assemble",
    pattern: /^src\/assemble\//,
    may: ["core", "tools", "control", "api", "sqlite", "local", "host", "run", "settings", "cron"],
    packages: /^node:/,
  },
  {
    name: "roles",
    pattern: /^src\/roles\//,
    may: ["core", "tools", "agent", "api", "mcp", "client", "assemble", "host", "run", "settings"],
    packages: /^(node:|@hono\/|cliui$|zod$)/,
  },
  {
    name: "main",
    pattern: /^src\/main\.ts$/,
    may: ["assemble", "roles", "settings", "mcp", "host", "run"],
    packages: /^node:/,
  },
]
const placeOf = (file: string) => places.find(({ pattern }) => pattern.test(file))

/** Static and dynamic imports of a file, as written. */
const importsOf = (file: string): readonly string[] =>
  [
    ...textOf(file).matchAll(
      /(?:^|\n)\s*(?:import|export)\b[^"'`;]*?\bfrom\s*"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)|(?:^|\n)import\s+"([^"]+)"/g,
    ),
  ].map(([, from, dynamic, bare]) => from ?? dynamic ?? bare ?? "")

describe("the layout", () => {
  it("has a place for every source file", () => {
    expect(sources.length).toBeGreaterThan(30)
    expect(sources.filter((file) => !placeOf(file))).toEqual([])
  })

  it("imports only what the table allows", () => {
    const wrong = sources.flatMap((file) => {
      const place = placeOf(file)
      if (!place) return []
      return importsOf(file).flatMap((specifier) => {
        if (!specifier.startsWith("."))
          return place.packages.test(specifier) ? [] : [`${file}: ${specifier}`]
        const target = normalize(join(dirname(file), specifier))
        if (target === "package.json")
          return file === "src/settings/version.ts" ? [] : [`${file}: ${specifier}`]
        const other = placeOf(target)?.name
        return other === place.name || (other && place.may.includes(other))
          ? []
          : [`${file}: ${specifier}`]
      })
    })
    expect(wrong).toEqual([])
  })

  it("lets one file alone speak each generation of the MCP SDK's server", () => {
    const importersOf = (library: string): string[] =>
      sources.filter((file) => importsOf(file).some((specifier) => specifier.startsWith(library)))
    expect(importersOf("@modelcontextprotocol/sdk/server/index")).toEqual(["src/mcp/server.ts"])
    expect(importersOf("@modelcontextprotocol/server")).toEqual(["src/mcp/modern.ts"])
  })

  it("calls no file by a name that says nothing", () => {
    expect(
      files.filter((file) => /(^|\/)(utils?|helpers?|common|types|misc|shared)(\.|\/)/.test(file)),
    ).toEqual([])
  })

  it("has no circle of imports, not even of types", () => {
    const graph = new Map(
      sources.map((file) => [
        file,
        importsOf(file)
          .filter((specifier) => specifier.startsWith("."))
          .map((specifier) => normalize(join(dirname(file), specifier))),
      ]),
    )
    expect(importCircle(graph)).toBeUndefined()
    const circle = new Map([
      ["a", ["b"]],
      ["b", ["c"]],
      ["c", ["b"]],
    ])
    expect(importCircle(circle)).toEqual(["b", "c", "b"])
  })

  it("exports each name once", () => {
    expect(exportedTwice(new Map(sources.map((file) => [file, textOf(file)])))).toEqual([])
    const twice = new Map([
      ["a", "export const one = 1"],
      ["b", "export interface one {}"],
    ])
    expect(exportedTwice(twice)).toEqual([["one", ["a", "b"]]])
  })
})

describe.each(rules)("a file $name", (rule) => {
  it("in the whole tree", () => {
    const found = files
      .filter((file) => rule.files.test(file))
      .flatMap((file) => rule.findings(textOf(file), file).map((what) => `${file}: ${what}`))
    expect(found).toEqual([])
  })

  it("and a file that breaks it is found", () => {
    const { file, text } = rule.broken
    expect(rule.files.test(file)).toBe(true)
    expect(rule.findings(text, file)).not.toEqual([])
  })
})

describe("the linter", () => {
  /** As the linter finds it in a project that has our settings and this one source file. */
  const lint = (text: string): string => {
    const root = mkdtempSync(join(tmpdir(), "blackbox5-lint-"))
    try {
      const settings = JSON.parse(textOf("biome.json"))
      delete settings.vcs
      mkdirSync(join(root, "src/core"), { recursive: true })
      writeFileSync(join(root, "biome.json"), JSON.stringify(settings))
      writeFileSync(join(root, "src/core/sample.ts"), text)
      const biome = join(process.cwd(), "node_modules/.bin/biome")
      const { stdout, stderr } = spawnSync(biome, ["lint", "src"], { cwd: root, encoding: "utf8" })
      return `${stdout}${stderr}`
    } finally {
      rmSync(root, { recursive: true })
    }
  }
  const lines = Array.from({ length: 90 }, (_, index) => `  console.info(${index})`).join("\n")
  it.each([
    ["noNestedTernary", "export const a = (b: number) => (b > 1 ? 1 : b > 0 ? 2 : 3)"],
    ["noExcessiveLinesPerFunction", `export function a(): void {\n${lines}\n}`],
    ["noExplicitAny", "export const a = (b: any) => b"],
    ["noNonNullAssertion", "export const a = (b?: string) => b!"],
  ])("knows the rule %s", (rule, text) => {
    expect(lint(text)).toContain(rule)
  })
})

describe("the history", () => {
  it("has imperative subjects of at most 72 characters", () => {
    // The rule is from that day; what was written before it stays as it is.
    const since = "--since=2026-11-25T22:00:00Z"
    const subjects = execFileSync("git", ["log", "--no-merges", "--format=%s", since], {
      encoding: "utf8",
    })
      .split("\n")
      .filter(Boolean)
    expect(subjects.filter((subject) => subjectFault(subject) !== undefined)).toEqual([])
    expect(subjectFault("Added a rule")).toBe("is no imperative")
    expect(subjectFault("add a rule")).toBe("begins without a capital")
    expect(subjectFault(`Add ${"a".repeat(80)}`)).toBe("is longer than 72 characters")
  })
})

describe("the core", () => {
  it("has neither clock, chance, nor I/O", () => {
    const banned =
      /\bDate\.now\b|\bnew Date\(\s*\)|\bMath\.random\b|\bcrypto\b|\bprocess\.|\bsetTimeout\b|\bsetInterval\b|\bfetch\(|\bperformance\./
    expect(
      sources.filter((file) => file.startsWith("src/core/") && banned.test(textOf(file))),
    ).toEqual([])
  })
})

describe("the whole tree", () => {
  it("skips no test and focuses none", () => {
    const modifier = new RegExp(
      `\\b(?:it|test|describe)\\.(?:${["skip", "todo", "only", "fails"].join("|")})\\b`,
    )
    expect(files.filter((file) => modifier.test(textOf(file)))).toEqual([])
  })

  it("reads the environment's settings in one place", () => {
    // processes of an instance get what they need from their parent: PATH to search, secrets of MCP
    // servers, the turnstile's own three variables
    const allowed = new Set([
      "src/settings/config.ts",
      "src/settings/policy.ts",
      // The person's own, without what git would take for another repository's.
      "src/host/git-environment.ts",
      "src/settings/outside-servers.ts",
      "src/agent/claude-shim.ts",
      "src/agent/launch.ts",
      "src/host/find-program.ts",
    ])
    expect(
      sources.filter((file) => /\bprocess\.env\b/.test(textOf(file)) && !allowed.has(file)),
    ).toEqual([])
  })

  it("cuts text in one place, between whole characters", () => {
    const cutting = /\.(?:slice\(0, (?:\d{3,}|\w*[cC]haracters\w*)\)|substring\(|substr\()/
    const places = sources.filter(
      (file) => cutting.test(textOf(file)) && file !== "src/core/view.ts",
    )
    expect(places).toEqual([])
  })

  it("starts processes only where this table says how each is found, where it begins and what it inherits", () => {
    // Literally as it stands there: whoever writes another one says so here. What runs outside of
    // agents' namespaces begins in no tree, and is found by no directory or configuration that
    // agents write, as far as that can be (SECURITY.md).
    const starts: Readonly<
      Record<string, { readonly calls: readonly string[]; readonly how: string }>
    > = {
      "src/main.ts": {
        calls: ["spawn(binary, process.argv"],
        how: "a person's own: the Node beside it, or an installed one",
      },
      "src/client/find-serve.ts": {
        calls: ["spawn(node, ["],
        how: "this Node, absolute; serve leaves the directory once it knows its code root",
      },
      "src/adapters/local/supervisors.ts": {
        calls: ["spawn(program, ["],
        how: "serve's own Node and main file, in the state directory",
      },
      "src/agent/bridge.ts": {
        calls: ["new StdioClientTransport({"],
        how: "server-program.ts: all of its own",
      },
      "src/agent/launch.ts": {
        calls: ["spawn(systemShell, ["],
        how: "the system's; enters the namespaces, in the agent's tree",
      },
      "src/agent/output.ts": {
        calls: ['execFileSync(systemProgram("mkfifo"), ['],
        how: "the system's, in the state directory",
      },
      "src/agent/loop.ts": { calls: ['spawn("claude", ['], how: "inside: the shim" },
      "src/agent/claude-shim.ts": {
        calls: ["spawn(claude, args,"],
        how: "inside: the real claude, absolute",
      },
      "src/host/git.ts": {
        calls: ['spawn(programOutside("git"), args,'],
        how: "in the tree that it looks at; configuration and PATH are ours",
      },
      "src/host/isolation-probe.ts": {
        calls: ["promisify(execFile)(program, args,"],
        how: "the system's alone",
      },
      "src/client/serve-file.ts": {
        calls: ['execFileSync(systemProgram("ps"), ['],
        how: "the system's",
      },
      "src/host/find-node.ts": {
        calls: ["execFileSync(node, ["],
        how: "a person's client: each node on PATH, absolute",
      },
      "src/host/find-program.ts": {
        calls: ["execFileSync(...asked,", "promisify(execFile)(...asked,"],
        how: "the login shell, where a person starts something: never while agents alone are there",
      },
      "src/roles/doctor/check.ts": {
        calls: ["execFile(program, args,"],
        how: "a person's: claude and git, absolute, in no project",
      },
      "src/roles/connect.ts": {
        calls: ["execFile(program, args,"],
        how: "a person's claude, absolute, in the project that it is for",
      },
    }
    const call =
      /\b(?:spawn|spawnSync|execFile|execFileSync|fork|StdioClientTransport|Worker)\)?\(/g
    const found = sources.flatMap((file) => {
      const text = textOf(file)
      return [...text.matchAll(call)].map(
        ({ index }) =>
          `${file}: ${text
            .slice(text.lastIndexOf("\n", index) + 1, text.indexOf("\n", index + 40))
            .replaceAll(/\(\s+/g, "(")
            .replaceAll(/\s+/g, " ")
            .trim()}`,
      )
    })
    const unsaid = found.filter(
      (line) =>
        !starts[line.slice(0, line.indexOf(": "))]?.calls.some((text) => line.includes(text)),
    )
    expect(unsaid).toEqual([])
    expect(found).toHaveLength(Object.values(starts).flatMap(({ calls }) => calls).length)
  })

  it("runs no shell strings", () => {
    expect(
      sources.filter((file) =>
        /\bexec(Sync)?\(|shell:\s*true/.test(textOf(file).replaceAll(/\.exec\(/g, "")),
      ),
    ).toEqual([])
  })

  it("keeps machine paths and registry hosts out", () => {
    const tracked = execFileSync("git", ["ls-files"], { encoding: "utf8" })
      .split("\n")
      .filter((file) => file && !file.endsWith(".png"))
    const foreign = new RegExp(
      [["/wo", "rk/"].join(""), ["registry", ".npmjs"].join(""), ["bash", "_jobs"].join("")].join(
        "|",
      ),
    )
    expect(tracked.filter((file) => foreign.test(textOf(file)))).toEqual([])
  })
})
