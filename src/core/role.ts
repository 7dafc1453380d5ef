export const roles = ["viewer", "operator", "admin"] as const
/** What a person may do: look; steer agents too; administer the fleet too. */
export type Role = (typeof roles)[number]
