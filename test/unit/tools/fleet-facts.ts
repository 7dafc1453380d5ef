/** What tests of the tools look at in a fleet and in a result. */
import type { Fleet, Result } from "../fleet.ts"

/** All that a call could have changed. */
export const snapshot = ({ byName, memory, spent }: Fleet): string =>
  JSON.stringify([[...byName.values()], memory.posts, memory.events, [...spent]])

export const namesOf = ({ instances }: Result): string[] =>
  instances.map(({ name }: { name: string }) => name)

export const messagesOf = ({ memory }: Fleet, kind: string): string[] =>
  memory.events.filter((event) => event.kind === kind).map(({ message }) => message)
