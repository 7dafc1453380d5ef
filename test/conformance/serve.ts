/** The real `serve`, with the fixtures of the conformance suites. */
import { serve } from "../../src/roles/serve.ts"
import { legacyWithFixtures } from "./legacy.ts"
import { modernWithFixtures } from "./modern.ts"

process.exitCode = await serve(process.argv.slice(2), {
  legacy: legacyWithFixtures,
  modern: modernWithFixtures,
})
