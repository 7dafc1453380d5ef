import type { Spec } from "./instance.ts"

/** Names all that a start uses; another revision means a new run. Begins with the attempt. */
export function revisionOf({
  attempt,
  project,
  loop,
  mode,
  model,
  workspace,
  repository,
  ref,
  codeRoot,
}: Spec): string {
  // Only what differs from the defaults: a newer version that knows more fields starts no loop
  // again.
  const where = Object.entries({ workspace, repository, ref, codeRoot }).filter(
    ([name, value]) => value !== undefined && !(name === "workspace" && value === "auto"),
  )
  const text = JSON.stringify([project, loop, mode, model, ...where])
  // FNV-1a, 32 bits: it tells a handful of revisions of one instance apart, nothing more.
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index++)
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193) >>> 0
  return `${attempt}-${hash.toString(16).padStart(8, "0")}`
}
