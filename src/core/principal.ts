import type { Instance, Problem, Uid } from "./instance.ts"
import type { Role } from "./role.ts"

/** Who is calling: known from a credential, never from what a caller says. */
export type Principal =
  | {
      readonly kind: "human"
      readonly id: string
      readonly role: Role
      /**
       * What an identity provider calls the person: for people to read, and no proof of who it is.
       */
      readonly name?: string
    }
  | {
      readonly kind: "instance"
      readonly id: string
      readonly uid: Uid
      readonly lineage: readonly Uid[]
    }

/**
 * outline: name and phase; see: everything; operate: change, pause, stop; spawn; message;
 * administer.
 */
export type Verb = "outline" | "see" | "operate" | "spawn" | "message" | "administer"

/** As mail and audit name a principal. */
export const nameOf = (who: Principal): string =>
  who.kind === "human" ? `operator ${who.id}` : `instance ${who.id}`

const allowed: Record<Role, ReadonlySet<Verb>> = {
  viewer: new Set<Verb>(["outline", "see"]),
  operator: new Set<Verb>(["outline", "see", "operate", "spawn", "message"]),
  admin: new Set<Verb>(["outline", "see", "operate", "spawn", "message", "administer"]),
}

const roleWords: Record<Role, string> = {
  viewer: "Viewers",
  operator: "Operators",
  admin: "Admins",
}

/** True, or why not. Without a target: whether the principal may do it at all. */
export function may(who: Principal, verb: Verb, target?: Instance): true | Problem {
  if (who.kind === "human")
    return (
      allowed[who.role].has(verb) || {
        reason: "Role",
        message: `${roleWords[who.role]} cannot do this; ${verb === "administer" ? "an admin" : "an operator"} can.`,
      }
    )
  const refused = (message: string): Problem => ({ reason: "Lineage", message })
  if (verb === "administer") return refused("Agents cannot administer the fleet.")
  if (!target) return true
  const self = target.uid === who.uid
  const descendant = target.spec.lineage.includes(who.uid)
  const root = who.lineage[0] ?? who.uid
  const inTree = target.uid === root || target.spec.lineage[0] === root
  switch (verb) {
    case "outline":
    case "message":
      return inTree || refused("An agent can reach only its own tree.")
    case "see":
      return self || descendant || refused("An agent can see only itself and its descendants.")
    default:
      return descendant || refused("An agent can change only its descendants.")
  }
}
