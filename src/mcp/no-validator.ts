/**
 * Stands in the bundle for the SDK's validator of elicited forms, whose library is a third of what
 * `mcp` loads: no form is asked for here. tsdown.config.ts puts it there.
 */
export function AjvJsonSchemaValidator(): { getValidator(): never } {
  return {
    getValidator() {
      throw new Error("blackbox5 elicits no forms")
    },
  }
}
