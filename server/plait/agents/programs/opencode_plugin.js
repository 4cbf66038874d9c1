// Gives every worktree its own permissions and its commands their own environment.
// The host copies it beside `worktrees.json`, which it keeps.
import { readFileSync } from "node:fs"

const wanted = (directory) => JSON.parse(readFileSync(new URL("./worktrees.json", import.meta.url), "utf8"))[directory]

const refusals = (rules) =>
  typeof rules === "string"
    ? rules === "deny" ? { "*": "deny" } : {}
    : Object.fromEntries(Object.entries(rules ?? {}).filter(([, action]) => action === "deny"))

// What the user forbids in OpenCode's own configuration stays forbidden.
const ruled = (theirs, ours) => {
  const result = typeof theirs === "string" ? { "*": theirs } : { ...(theirs ?? {}) }
  const always = refusals(result["*"])["*"]
  for (const [tool, action] of Object.entries(ours)) {
    const kept = refusals(result[tool])
    delete result[tool]
    result[tool] = always ?? kept["*"] ?? (Object.keys(kept).length ? { "*": action, ...kept } : action)
  }
  return result
}

const rules = (permission, servers) => {
  const rest = permission === "all" ? "allow" : "ask"
  const ours = { edit: permission === "ask" ? "ask" : "allow", bash: rest, webfetch: rest, websearch: rest }
  if (permission === "all") Object.assign(ours, { read: "allow", external_directory: "allow", doom_loop: "allow" })
  for (const name of servers) ours[name.replace(/[^a-zA-Z0-9_-]/g, "_") + "_*"] = rest
  return ours
}

export const Plait = async ({ directory }) => ({
  config: async (config) => {
    const found = wanted(directory)
    if (!found) return
    const ours = rules(found.permission, Object.keys(config.mcp ?? {}))
    config.permission = ruled(config.permission, ours)
    for (const agent of Object.values(config.agent ?? {}))
      if (agent?.permission) agent.permission = ruled(agent.permission, ours)
  },
  "shell.env": async (_input, output) => {
    Object.assign(output.env, { OPENCODE_SERVER_PASSWORD: "" }, wanted(directory)?.env)
  },
})
