import { type Instance, type Uid, uidSchema } from "../../core/instance.ts"
import {
  marked,
  mayBeReleased,
  newInstance,
  withSection,
  withSpec,
} from "../../core/instance-writes.ts"
import type { Instances } from "../../core/ports.ts"
import type { Connection } from "./connection.ts"

export function memoryInstances({ backend, replicaOf, reach }: Connection): Instances {
  const { instances: truth, clock } = backend
  const replica = replicaOf(truth)
  const newUid = (): Uid => uidSchema.parse(`uid-${backend.nextNumber()}`)
  return {
    replica,
    read: (name) => reach("instances.read", () => truth.get(name)),
    async create(name, spec) {
      const [instance, revision] = await reach("instances.create", () => {
        const head = { name, uid: newUid(), createdAtMs: clock.nowMs() }
        const made = newInstance(truth.get(name), head, spec)
        return [made, truth.put(name, made)] as const
      })
      replica.put(name, instance, revision)
      return instance
    },
    async updateSpec(seen, spec) {
      return write("updateSpec", seen.name, () => withSpec(truth.get(seen.name), seen, spec))
    },
    async updateStatus(seen, section, value) {
      return write("updateStatus", seen.name, () =>
        withSection(truth.get(seen.name), seen, section, value),
      )
    },
    async delete(seen) {
      const put = await reach("instances.delete", () => {
        const instance = marked(truth.get(seen.name), seen, clock.nowMs())
        return instance && ([instance, truth.put(seen.name, instance)] as const)
      })
      if (put) replica.put(seen.name, ...put)
    },
    async release(seen) {
      const revision = await reach("instances.release", () =>
        mayBeReleased(truth.get(seen.name), seen) ? truth.gone(seen.name) : undefined,
      )
      if (revision !== undefined) replica.gone(seen.name, revision)
    },
  }

  async function write(call: string, name: string, next: () => Instance): Promise<Instance> {
    const [instance, revision] = await reach(`instances.${call}`, () => {
      const before = truth.get(name)
      const after = next()
      return [after, after === before ? undefined : truth.put(name, after)] as const
    })
    if (revision !== undefined) replica.put(name, instance, revision)
    return instance
  }
}
