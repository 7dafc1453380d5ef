/**
 * Replaces the SDK's validator of elicited forms, whose library is a third of what `mcp` loads. We
 * elicit no form with fields. tsdown.config.ts puts it into the bundle.
 */
export function AjvJsonSchemaValidator(): { getValidator(): never } {
  return {
    getValidator() {
      throw new Error("blackbox5 elicits no forms with fields")
    },
  }
}
