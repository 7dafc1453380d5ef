import { directoryIn, type Launch, launchOf, projectsIn } from "../adapters/local/code-root.ts"
import { noCodeRoot } from "../adapters/local/known-roots.ts"
import { isDirectory } from "../host/find-code-root.ts"
import type { Policy } from "../settings/policy.ts"

/**
 * A code root as serve would use it under a policy, for commands that only look. `resolve` throws
 * why a loop could not be started.
 */
export const previewCodeRoot = (path: string, { loops, claude }: Policy) => ({
  list(): readonly string[] {
    if (!isDirectory(path)) throw noCodeRoot(path)
    return projectsIn(path)
  },
  resolve(spec: { project: string; loop: string }): Launch {
    const project = directoryIn(path, spec.project)
    const tree = { own: false, path: project, project, autonomous: false }
    return launchOf({ loops: () => loops, claude: () => claude, builtIn: [] }, spec, path, tree)
  },
})
