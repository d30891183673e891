-- Policies say of the groups that their firings make what one says of any group: until now these completed each
-- member by itself, and called no hooks. Firings keep the definition that they began with.
UPDATE "policy"
SET "definition" = jsonb_set("definition", '{grouped}',
  '{"completion": "individual", "hooks": []}'::jsonb || ("definition" -> 'grouped'))
WHERE jsonb_typeof("definition" -> 'grouped') = 'object';

UPDATE "policy_firing"
SET "definition" = jsonb_set("definition", '{grouped}',
  '{"completion": "individual", "hooks": []}'::jsonb || ("definition" -> 'grouped'))
WHERE jsonb_typeof("definition" -> 'grouped') = 'object';
