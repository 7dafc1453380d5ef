import { readFileSync } from "node:fs"
import { expect, it } from "vitest"
import { z } from "zod"
import { serverInfo } from "../../src/mcp/about.ts"
import { version } from "../../src/settings/version.ts"

/**
 * What the MCP registry is told of this package. The registry compares the same fields when it is
 * published.
 */
const server = z
  .strictObject({
    $schema: z.literal(
      "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
    ),
    name: z.string().regex(/^[a-zA-Z0-9.-]+\/[a-zA-Z0-9._-]+$/),
    title: z.string().max(100),
    description: z.string().min(1).max(100),
    version: z.string(),
    packages: z
      .array(
        z.looseObject({
          registryType: z.literal("npm"),
          identifier: z.string(),
          version: z.string(),
          packageArguments: z.tuple([
            z.object({ type: z.literal("positional"), value: z.string() }),
          ]),
          environmentVariables: z.array(
            z.looseObject({
              name: z.string(),
              description: z.string(),
              default: z.string().optional(),
            }),
          ),
          transport: z.looseObject({ type: z.string(), url: z.string().optional() }),
        }),
      )
      .min(1),
  })
  .parse(JSON.parse(readFileSync("server.json", "utf8")))
const manifest = z
  .looseObject({ name: z.string(), mcpName: z.string(), bin: z.record(z.string(), z.string()) })
  .parse(JSON.parse(readFileSync("package.json", "utf8")))

it("names this package, in this version", () => {
  expect(server).toMatchObject({ name: manifest.mcpName, title: serverInfo.title, version })
  expect(Object.keys(manifest.bin)).toEqual([manifest.name])
  expect(server.packages.map((one) => [one.identifier, one.version])).toEqual(
    server.packages.map(() => [manifest.name, version]),
  )
})

it("starts roles that there are, with variables that are read", () => {
  const [roles, settings] = [
    readFileSync("src/main.ts", "utf8"),
    readFileSync("src/settings/config.ts", "utf8"),
  ]
  const started = server.packages.map(({ packageArguments: [role], transport }) => [
    role.value,
    transport.type,
  ])
  expect(started).toEqual([
    ["mcp", "stdio"],
    ["serve", "streamable-http"],
  ])
  for (const [role] of started) expect(roles).toContain(`  ${role}: async`)
  const variables = server.packages.flatMap((one) => one.environmentVariables)
  expect(variables.filter(({ name }) => !settings.includes(`env.${name}`))).toEqual([])
  const port = variables.find(({ name }) => name === "BLACKBOX5_PORT")?.default
  expect(settings).toContain(`defaultPort = ${port}\n`)
})
