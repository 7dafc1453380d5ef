import { readFileSync } from "node:fs"
import { join } from "node:path"
import type { z } from "zod"
import { replaceFile, syncPath } from "../host/replace-file.ts"
import { begunSchema, treeSchema } from "./tree-file.ts"

/** Files that stay for the life of an instance, beside its runs. */
const lasting = { tree: treeSchema, begun: begunSchema }
/**
 * `tree` is the runtime's, `begun` the supervisor's. Undefined where the file is missing or is not
 * what it should be.
 */
export function readLasting<N extends keyof typeof lasting>(
  instance: string,
  name: N,
): z.output<(typeof lasting)[N]> | undefined {
  const schema: z.ZodType<z.output<(typeof lasting)[N]>> = lasting[name] as unknown as z.ZodType<
    z.output<(typeof lasting)[N]>
  > // the table's own entry: TypeScript does not follow N through it
  try {
    return schema.safeParse(JSON.parse(readFileSync(join(instance, `${name}.json`), "utf8"))).data
  } catch {
    return undefined
  }
}
export const writeLasting = <N extends keyof typeof lasting>(
  instance: string,
  name: N,
  value: z.output<(typeof lasting)[N]>,
): void => {
  const path = join(instance, `${name}.json`)
  replaceFile(path, JSON.stringify(value))
  // Without it, a tree would be there that nobody knows.
  for (const one of [path, instance]) syncPath(one)
}
