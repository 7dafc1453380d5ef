import { z } from "zod"
import { nameSchema } from "../core/instance.ts"
import type { Invoke } from "../core/invoke.ts"
import { type Call, noProgress } from "../core/tool.ts"
import { oneLine } from "../core/view.ts"
import { asRefusal, Refusal } from "./refusal.ts"

/**
 * The fleet's resources. They are read through the caller's own Invoke, so what a caller may not
 * see does not exist for it.
 */

const mimeType = "application/json"
export const fleetUri = "ralf://fleet"
const below = "ralf://instances/"

/** What an address stands for. */
export type ResourceTarget =
  | { readonly of: "fleet" }
  | { readonly of: "instance" | "logs" | "events"; readonly name: string }

export const uriOf = (name: string, part?: "logs" | "events"): string =>
  `${below}${name}${part ? `/${part}` : ""}`

/** @throws Refusal for an invalid address. */
export function parseUri(uri: string): ResourceTarget {
  if (uri === fleetUri) return { of: "fleet" }
  const [, name = "", part] = /^ralf:\/\/instances\/([^/]+)(?:\/(logs|events))?$/.exec(uri) ?? []
  if (nameSchema.safeParse(name).success)
    return { of: part === "logs" || part === "events" ? part : "instance", name }
  throw new Refusal(
    -32002,
    `Resource not found: ${oneLine(uri, 200)}. Available are ${fleetUri}, ${below}{name}, ${below}{name}/logs and ${below}{name}/events.`,
  )
}

/** The call that reads a target. */
const readCall = (
  place: ResourceTarget,
): readonly [tool: string, input: Record<string, unknown>] => {
  switch (place.of) {
    case "fleet":
      return ["fleet_status", {}]
    case "instance":
      return ["inspect_instance", { name: place.name }]
    case "logs":
      return ["read_logs", { name: place.name }]
    case "events":
      return ["read_events", { name: place.name }]
  }
}

const fleet = {
  uri: fleetUri,
  name: "fleet",
  title: "The fleet",
  description: "Who is running, who needs you, turns in use, spend.",
  mimeType,
}
export const resourceTemplates = [
  {
    uriTemplate: uriOf("{name}"),
    name: "instance",
    title: "An instance",
    description: "Phase, why, usage, work, mail.",
    mimeType,
  },
  {
    uriTemplate: uriOf("{name}", "logs"),
    name: "logs",
    title: "Its log",
    description: "The latest output of its loop.",
    mimeType,
  },
  {
    uriTemplate: uriOf("{name}", "events"),
    name: "events",
    title: "Its events",
    description: "What happened to it.",
    mimeType,
  },
]

const pageSize = 100
const listedSchema = z.object({
  total: z.int(),
  instances: z.array(z.object({ name: z.string(), phase: z.string(), why: z.string() })),
  nextCursor: z.string().optional(),
})

interface Resource {
  uri: string
  name: string
  title?: string
  description: string
  mimeType: string
}
export interface Resources {
  list(
    cursor: string | undefined,
    signal: AbortSignal,
  ): Promise<{ resources: Resource[]; nextCursor?: string }>
  read(
    uri: string,
    signal: AbortSignal,
  ): Promise<{ contents: { uri: string; mimeType: string; text: string }[] }>
  /** Names that start with a prefix, and how many there are. */
  names(prefix: string, signal: AbortSignal): Promise<{ names: string[]; total: number }>
}

export function createResources(invoke: Invoke): Resources {
  const call = (signal: AbortSignal): Call => ({ signal, progress: noProgress })
  const listInstances = async (
    input: Record<string, unknown>,
    signal: AbortSignal,
  ): Promise<z.output<typeof listedSchema>> => {
    try {
      return listedSchema.parse(await invoke("list_instances", input, call(signal)))
    } catch (error) {
      throw asRefusal(error)
    }
  }
  return {
    async list(cursor, signal) {
      const page = await listInstances(
        { limit: pageSize, ...(cursor !== undefined && { cursor }) },
        signal,
      )
      return {
        resources: [
          ...(cursor === undefined ? [fleet] : []),
          ...page.instances.map(({ name, phase, why }) => ({
            uri: uriOf(name),
            name,
            description: oneLine(`${phase}: ${why}`, 200),
            mimeType,
          })),
        ],
        ...(page.nextCursor !== undefined && { nextCursor: page.nextCursor }),
      }
    },
    async read(uri, signal) {
      const [tool, input] = readCall(parseUri(uri))
      try {
        return {
          contents: [
            { uri, mimeType, text: JSON.stringify(await invoke(tool, input, call(signal))) },
          ],
        }
      } catch (error) {
        throw asRefusal(error)
      }
    },
    async names(prefix, signal) {
      const found: string[] = []
      // No selector matches a prefix, so this filters pages, up to a bound.
      let cursor: string | undefined
      for (let page = 0; page < 10; page++) {
        const { instances, nextCursor } = await listInstances(
          { limit: 200, ...(cursor !== undefined && { cursor }) },
          signal,
        )
        found.push(...instances.map(({ name }) => name).filter((name) => name.startsWith(prefix)))
        cursor = nextCursor
        if (cursor === undefined) break
      }
      return { names: found, total: found.length }
    },
  }
}
