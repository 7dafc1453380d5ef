import { greetAndList, startServer } from "./conversation.ts"
import { type Part, row } from "./measure.ts"
import { openFleet } from "./worlds.ts"

const modelBytesMax = 11_264
const listBytesMax = 20_480
const bytesOf = (value: unknown): number => Buffer.byteLength(JSON.stringify(value))

/**
 * What the list of tools costs: `model` is what a client puts before its model, `list` all that the
 * server sends.
 */
export const toolsPart: Part = {
  ids: ["tools.bytes.model", "tools.bytes.list"],
  async measure() {
    await using fleet = await openFleet(() => {
      throw new Error("nobody asks the model here")
    })
    await using server = startServer(fleet.world.env)
    const tools = await greetAndList(server)
    const model = bytesOf(
      tools.map(({ name, description, inputSchema }) => ({ name, description, inputSchema })),
    )
    const list = bytesOf(tools)
    return [
      row("tools.bytes.model", "bytes", model, {
        goal: `<= ${modelBytesMax}`,
        holds: model <= modelBytesMax,
      }),
      row("tools.bytes.list", "bytes", list, {
        goal: `<= ${listBytesMax}`,
        holds: list <= listBytesMax,
      }),
    ]
  },
}
