import { z } from "zod"
import type { Invoke } from "../core/invoke.ts"
import { noProgress } from "../core/tool.ts"
import { asRefusal } from "./refusal.ts"
import type { Resources } from "./resources.ts"

/** Completes the names of instances and projects. */

export interface CompletionSource {
  readonly invoke: Invoke
  readonly resources: Resources
  readonly signal: AbortSignal
}
export interface Completions {
  readonly names: readonly string[]
  readonly total: number
}

const statusSchema = z.object({ projects: z.array(z.object({ name: z.string() })) })

/** The values of an argument that begin with the prefix. @throws Refusal */
export async function completeArgument(
  { invoke, resources, signal }: CompletionSource,
  argument: string,
  prefix: string,
): Promise<Completions> {
  if (argument === "name") return resources.names(prefix, signal)
  if (argument !== "project") return { names: [], total: 0 }
  try {
    const status = await invoke("fleet_status", {}, { signal, progress: noProgress })
    const names = statusSchema
      .parse(status)
      .projects.map(({ name }) => name)
      .filter((name) => name.startsWith(prefix))
    return { names, total: names.length }
  } catch (error) {
    throw asRefusal(error)
  }
}
