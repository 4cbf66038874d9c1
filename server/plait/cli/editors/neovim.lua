-- Plait in Neovim 0.11 or newer: review what agents did in the buffers that you have open.
--
-- Save this file as plugin/plait.lua in your configuration (`:echo stdpath('config')`), and restart Neovim.
--
--   ]h  [h                    next, previous hunk in review order, also in other files
--   <leader>hs  <leader>hr    accept, reject the hunk at the cursor (`u` takes an accepted one back)
--   <leader>hS  <leader>hR    accept, reject a session's hunks of the whole file
--   <leader>hp                show the hunk inline: old lines marked, new lines below them
--   <leader>hm                tell the agent of the hunk at the cursor something about it
--   <leader>hq                the hunks of the open buffers in the quickfix list
--
-- `:Plait` has the same by name, and `:Plait run TEXT` starts an agent. If gitsigns has these keys, change `prefix`.
-- In your statusline: %{get(g:,'plait_status','')}   With lualine: function() return vim.g.plait_status or '' end
--
-- What Neovim does not show: a tree of sessions and their terminals (`plait watch`), and side-by-side diffs
-- (`plait diff ID`). On 0.11 code lenses are drawn when hunks change, but not while you type.

local command = { "plait", "lsp" }
local prefix = '<leader>h'
local drawn = vim.api.nvim_create_namespace('plait.preview')

local function client(buffer)
  return vim.lsp.get_clients({ name = 'plait', bufnr = buffer or 0 })[1]
end

local function say(text)
  vim.notify('plait: ' .. text, vim.log.levels.WARN)
end

local function told(problem)
  local hint = type(problem.data) == 'table' and type(problem.data.hint) == 'string' and ' ' .. problem.data.hint or ''
  say(problem.message .. hint)
end

local function place()
  return { uri = vim.uri_from_bufnr(0), line = vim.api.nvim_win_get_cursor(0)[1] - 1 }
end

-- Asks the server to carry out one of its commands.
local function execute(name, argument, done)
  local server = client()
  if not server then
    return say('this buffer is no file in a git repository, or the server does not run (:checkhealth vim.lsp)')
  end
  server:exec_cmd({ title = name, command = name, arguments = { argument } }, { bufnr = 0 }, function(problem, result)
    if problem then
      told(problem)
    elseif done then
      done(result)
    end
  end)
end

-- Takes the only code action of that kind at the cursor, or lets you choose if several sessions changed these lines.
local function act(kind)
  local reason
  vim.lsp.buf.code_action({
    apply = true,
    context = { only = { kind }, diagnostics = {} },
    filter = function(action)
      reason = action.disabled and action.disabled.reason
      if reason then
        say(reason)
      end
      return not action.disabled
    end,
  })
end

-- The hunks whose lines the cursor is on, or between whose lines something would be inserted.
local function at_cursor(done)
  local server, buffer = client(), vim.api.nvim_get_current_buf()
  if not server then
    return say('no server in this buffer')
  end
  local line = vim.api.nvim_win_get_cursor(0)[1] - 1
  server:request('plait/hunks', { textDocument = { uri = vim.uri_from_bufnr(buffer) } }, function(problem, result)
    if problem then
      return told(problem)
    end
    local found = vim.tbl_filter(function(hunk)
      local range = hunk.range
      if not hunk.waits or type(range) ~= 'table' then
        return false
      end
      local first, last = range.start.line, range['end'].line
      return first <= line and line < math.max(last, first + 1) or first == last and first == line + 1
    end, result.hunks)
    if #found == 0 then
      return say('no hunk at the cursor')
    end
    done(found, buffer)
  end, buffer)
end

local function preview()
  at_cursor(function(hunks, buffer)
    vim.api.nvim_buf_clear_namespace(buffer, drawn, 0, -1)
    local count = vim.api.nvim_buf_line_count(buffer)
    for _, hunk in ipairs(hunks) do
      local first, last = hunk.range.start.line, hunk.range['end'].line
      for line = first, last - 1 do
        vim.api.nvim_buf_set_extmark(buffer, drawn, line, 0, { line_hl_group = 'DiffDelete' })
      end
      local lines = { { { hunk.agent .. ': ' .. hunk.title:gsub('%s+', ' '), 'Comment' } } }
      for _, added in ipairs(hunk.added) do
        lines[#lines + 1] = { { (added:gsub('[\r\n]+$', '')), 'DiffAdd' } }
      end
      -- The new lines stand below the old ones, and those to insert before the line that they push down.
      local row = math.min(last > first and last - 1 or first, count - 1)
      local above = last == first and first < count
      vim.api.nvim_buf_set_extmark(buffer, drawn, row, 0, { virt_lines = lines, virt_lines_above = above })
    end
    vim.schedule(function()
      vim.api.nvim_create_autocmd({ 'CursorMoved', 'TextChanged', 'InsertEnter' }, {
        buffer = buffer,
        once = true,
        callback = function()
          vim.api.nvim_buf_clear_namespace(buffer, drawn, 0, -1)
        end,
      })
    end)
  end)
end

local function tell(text)
  at_cursor(function(hunks)
    local hunk = hunks[1]
    local function send(said)
      if said and said ~= '' then
        local where = ('%s, line %d: '):format(hunk.path, hunk.range.start.line + 1)
        execute('plait.session.say', { session = hunk.session, text = where .. said })
      end
    end
    if text and text ~= '' then
      send(text)
    else
      vim.ui.input({ prompt = 'To ' .. hunk.agent .. ': ' }, send)
    end
  end)
end

local verbs = {
  next = function() execute('plait.hunk.next', place()) end,
  prev = function() execute('plait.hunk.prev', place()) end,
  accept = function() act('quickfix.plait.accept') end,
  reject = function() act('quickfix.plait.reject') end,
  accept_file = function() act('source.plait.acceptFile') end,
  reject_file = function() act('source.plait.rejectFile') end,
  preview = preview,
  tell = tell,
  quickfix = function()
    vim.diagnostic.setqflist({ namespace = vim.lsp.diagnostic.get_namespace(client().id), title = 'Hunks' })
  end,
  run = function(text)
    execute('plait.task.run', { text = text, path = vim.api.nvim_buf_get_name(0) }, function(result)
      vim.notify(('plait: %d session started'):format(#result.sessions))
    end)
  end,
}

vim.api.nvim_create_user_command('Plait', function(given)
  local verb = verbs[given.fargs[1]]
  if not verb then
    return say('there is no :Plait ' .. given.fargs[1])
  end
  if given.fargs[1] ~= 'tell' and not client() then
    return say('no server in this buffer')
  end
  verb(table.concat(given.fargs, ' ', 2))
end, {
  nargs = '+',
  complete = function(start)
    return vim.tbl_filter(function(name)
      return vim.startswith(name, start)
    end, vim.fn.sort(vim.tbl_keys(verbs)))
  end,
})

local keys = {
  [']h'] = 'next',
  ['[h'] = 'prev',
  [prefix .. 's'] = 'accept',
  [prefix .. 'r'] = 'reject',
  [prefix .. 'S'] = 'accept_file',
  [prefix .. 'R'] = 'reject_file',
  [prefix .. 'p'] = 'preview',
  [prefix .. 'm'] = 'tell',
  [prefix .. 'q'] = 'quickfix',
}

local function draw_lenses(buffer)
  if vim.lsp.codelens.enable then
    vim.lsp.codelens.enable(true, { bufnr = buffer })
  else
    vim.lsp.codelens.refresh({ bufnr = buffer })
  end
end

local function on_attach(server, buffer)
  for key, name in pairs(keys) do
    vim.keymap.set('n', key, function() verbs[name]() end, { buffer = buffer, desc = 'Plait: ' .. name })
  end
  -- Neovim 0.11 shows no message beside a line unless it is told to; this is for Plait's own diagnostics only.
  vim.diagnostic.config({ virtual_text = { source = false } }, vim.lsp.diagnostic.get_namespace(server.id))
  draw_lenses(buffer)
end

local handlers = {
  ['plait/didChangeStatus'] = function(_, status)
    vim.g.plait_status = status.message
    vim.cmd.redrawstatus()
  end,
}
local capabilities = {}
if not vim.lsp.codelens.enable then
  -- Neovim 0.11 does not know this request; newer ones do it by themselves.
  capabilities = { workspace = { codeLens = { refreshSupport = true } } }
  handlers['workspace/codeLens/refresh'] = function(_, _, context)
    for buffer in pairs(vim.lsp.get_client_by_id(context.client_id).attached_buffers) do
      draw_lenses(buffer)
    end
    return vim.NIL
  end
end

local function root(buffer)
  local name = vim.api.nvim_buf_get_name(buffer)
  return vim.bo[buffer].buftype == '' and name ~= '' and vim.fs.root(name, '.git') or nil
end

vim.lsp.config('plait', {
  cmd = command,
  -- No filetypes: every file inside a git repository.
  root_dir = function(buffer, found)
    local top = root(buffer)
    if top then
      found(top)
    end
  end,
  init_options = { plait = { protocol = 1, client = 'neovim', features = { 'status' } } },
  capabilities = capabilities,
  handlers = handlers,
  on_attach = on_attach,
})
vim.lsp.enable('plait')

-- What is enabled attaches when a filetype is set, which some files do not have.
vim.api.nvim_create_autocmd({ 'BufReadPost', 'BufNewFile' }, {
  group = vim.api.nvim_create_augroup('plait', {}),
  callback = function(event)
    vim.schedule(function()
      local valid = vim.api.nvim_buf_is_valid(event.buf) and vim.api.nvim_buf_is_loaded(event.buf)
      local top = valid and vim.bo[event.buf].filetype == '' and root(event.buf)
      if top then
        local config = vim.tbl_extend('force', vim.lsp.config.plait, { root_dir = top })
        vim.lsp.start(config, { bufnr = event.buf })
      end
    end)
  end,
})
