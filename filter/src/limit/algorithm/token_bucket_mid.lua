        -- Rest of token_bucket_head.lua, after override.lua.
      end
      if not differs and (state or has_override) then
