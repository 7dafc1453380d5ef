/**
 * Reads a field by the name that earlier versions wrote: for `z.preprocess`, in front of a schema
 * that knows only the new name.
 */
export const renamedField =
  (before: string, now: string) =>
  (value: unknown): unknown => {
    if (typeof value !== "object" || value === null || !(before in value)) return value
    return Object.fromEntries(
      Object.entries(value).map(([name, field]) => [name === before ? now : name, field]),
    )
  }
