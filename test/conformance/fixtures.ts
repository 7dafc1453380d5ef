/**
 * What the conformance suites ask every server for, in no era's words. It is added to the real
 * server by serve.ts of this directory alone.
 */

import type { Call } from "../../src/core/tool.ts"
import type { Answer, Surface } from "../../src/mcp/surface.ts"

/** One red pixel, and an empty sound. */
const png =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
const wav = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="

type Content =
  | { type: "text"; text: string }
  | { type: "image" | "audio"; data: string; mimeType: string }
  | { type: "resource"; resource: { uri: string; mimeType: string; text: string } }
export interface Said {
  [key: string]: unknown
  content: Content[]
  isError?: boolean
}
export const say = (text: string): Said => ({ content: [{ type: "text", text }] })

type Json = string | number | boolean | null | Json[] | { [name: string]: Json }
export interface ToolFixture {
  readonly description: string
  readonly schema?: {
    [keyword: string]: Json
    type: "object"
    properties: { [name: string]: { [keyword: string]: Json } }
  }
}
const nothing = { type: "object" as const, properties: {} }
/** As tools/list has them. */
const listed = (fixtures: Readonly<Record<string, ToolFixture>>) =>
  Object.entries(fixtures).map(([name, { description, schema = nothing }]) => ({
    name,
    description,
    inputSchema: schema,
  }))

const resource = (uri: string, text: string, mimeType = "text/plain"): Content => ({
  type: "resource",
  resource: { uri, mimeType, text },
})

const plainTools: Readonly<
  Record<
    string,
    ToolFixture & { call(input: Record<string, unknown>, progress: Call["progress"]): Said }
  >
> = {
  test_simple_text: {
    description: "Answers with text.",
    call: () => say("This is a simple text response for testing."),
  },
  test_image_content: {
    description: "Answers with an image.",
    call: () => ({ content: [{ type: "image", data: png, mimeType: "image/png" }] }),
  },
  test_audio_content: {
    description: "Answers with a sound.",
    call: () => ({ content: [{ type: "audio", data: wav, mimeType: "audio/wav" }] }),
  },
  test_embedded_resource: {
    description: "Answers with a resource.",
    call: () => ({
      content: [resource("test://embedded-resource", "This is an embedded resource content.")],
    }),
  },
  test_multiple_content_types: {
    description: "Answers with several kinds of content.",
    call: () => ({
      content: [
        { type: "text", text: "Multiple content types test:" },
        { type: "image", data: png, mimeType: "image/png" },
        resource(
          "test://mixed-content-resource",
          '{"test":"data","value":123}',
          "application/json",
        ),
      ],
    }),
  },
  test_tool_with_progress: {
    description: "Tells its progress.",
    call(_, progress) {
      for (const done of [1, 50, 100]) progress(done, `Completed step ${done} of 100`)
      return say("done")
    },
  },
  test_error_handling: {
    description: "Fails.",
    call: () => ({ ...say("This tool intentionally returns an error for testing"), isError: true }),
  },
  json_schema_2020_12_tool: {
    description: "Has a schema with much of JSON Schema 2020-12.",
    schema: {
      $schema: "https://json-schema.org/draft/2020-12/schema",
      type: "object",
      $defs: {
        address: {
          $anchor: "addressDef",
          type: "object",
          properties: { street: { type: "string" }, city: { type: "string" } },
        },
      },
      properties: {
        name: { type: "string" },
        address: { $ref: "#/$defs/address" },
        contactMethod: { type: "string", enum: ["phone", "email"] },
        phone: { type: "string" },
        email: { type: "string" },
      },
      allOf: [{ anyOf: [{ required: ["phone"] }, { required: ["email"] }] }],
      if: { properties: { contactMethod: { const: "phone" } }, required: ["contactMethod"] },
      // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
      then: { required: ["phone"] },
      else: { required: ["email"] },
      additionalProperties: false,
    },
    call: (input) => say(JSON.stringify(input)),
  },
}

interface ResourceFixture {
  readonly name: string
  readonly mimeType: string
  readonly content: { text: string } | { blob: string }
}
const resources: Readonly<Record<string, ResourceFixture>> = {
  "test://static-text": {
    name: "static-text",
    mimeType: "text/plain",
    content: { text: "This is the content of the static text resource." },
  },
  "test://static-binary": { name: "static-binary", mimeType: "image/png", content: { blob: png } },
  "test://watched-resource": {
    name: "watched-resource",
    mimeType: "text/plain",
    content: { text: "Watched resource content" },
  },
}
function read(uri: string) {
  const fixture = resources[uri]
  if (fixture) return { contents: [{ uri, mimeType: fixture.mimeType, ...fixture.content }] }
  const [, id] = /^test:\/\/template\/([^/]+)\/data$/.exec(uri) ?? []
  if (id === undefined) return undefined
  const text = JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` })
  return { contents: [{ uri, mimeType: "application/json", text }] }
}

const argument = (name: string) => ({ name, description: name, required: true })
const prompts = [
  { name: "test_simple_prompt", arguments: [] },
  { name: "test_prompt_with_arguments", arguments: [argument("arg1"), argument("arg2")] },
  { name: "test_prompt_with_embedded_resource", arguments: [argument("resourceUri")] },
  { name: "test_prompt_with_image", arguments: [] },
].map((prompt) => ({ ...prompt, title: prompt.name, description: prompt.name }))
function prompted(name: string, given: Readonly<Record<string, string>>) {
  const user = (...contents: Content[]) => ({
    description: name,
    messages: contents.map((content) => ({ role: "user" as const, content })),
  })
  const text = (said: string): Content => ({ type: "text", text: said })
  switch (name) {
    case "test_simple_prompt":
      return user(text("This is a simple prompt for testing."))
    case "test_prompt_with_arguments":
      return user(text(`Prompt with arguments: arg1='${given.arg1}', arg2='${given.arg2}'`))
    case "test_prompt_with_embedded_resource":
      return user(
        resource(given.resourceUri ?? "", "Embedded resource content for testing."),
        text("Please process the embedded resource above."),
      )
    case "test_prompt_with_image":
      return user(
        { type: "image", data: png, mimeType: "image/png" },
        text("Please analyze the image above."),
      )
    default:
      return undefined
  }
}

/**
 * The real surface with the fixtures beside its own. The fleet itself says nothing but text: the
 * casts are the fixtures' images and sounds.
 */
export function withFixtures(
  real: Surface,
  more: { tools?: Readonly<Record<string, ToolFixture>>; prompts?: Surface["prompts"] } = {},
): Surface {
  const tools = [...real.tools, ...listed({ ...plainTools, ...more.tools })] as Surface["tools"]
  return {
    ...real,
    tools,
    watch: real.watch,
    async call(name, input, call) {
      const fixture = plainTools[name]
      return fixture ? (fixture.call(input, call.progress) as Answer) : real.call(name, input, call)
    },
    question: (name, input) =>
      real.tools.some((tool) => tool.name === name) ? real.question(name, input) : undefined,
    resources: {
      ...real.resources,
      async list(cursor, signal) {
        const page = await real.resources.list(cursor, signal)
        const fixtures = Object.entries(resources).map(([uri, { name, mimeType }]) => ({
          uri,
          name,
          mimeType,
          description: name,
        }))
        return { ...page, resources: [...page.resources, ...fixtures] }
      },
      read: async (uri, signal) =>
        (read(uri) as Awaited<ReturnType<Surface["resources"]["read"]>>) ??
        real.resources.read(uri, signal),
    },
    resourceTemplates: [
      ...real.resourceTemplates,
      {
        uriTemplate: "test://template/{id}/data",
        name: "template",
        title: "Template",
        description: "A template.",
        mimeType: "application/json",
      },
    ],
    prompts: [...real.prompts, ...prompts, ...(more.prompts ?? [])],
    prompt: async (name, given, signal) =>
      (prompted(name, given) as Awaited<ReturnType<Surface["prompt"]>>) ??
      real.prompt(name, given, signal),
    complete: async (of, argument, signal) =>
      "prompt" in of && prompts.some(({ name }) => name === of.prompt)
        ? { values: [], total: 0, hasMore: false }
        : real.complete(of, argument, signal),
  }
}
