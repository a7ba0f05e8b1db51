"""The one exception a user is meant to read."""


class UserError(Exception):
  """Something the user can mend: bad audio, a wrong path, a config typo.

  The message is one paragraph that names the file or field, what was found,
  what was expected and what to do. Command lines print it without a traceback
  and end with its `status`.
  """

  status = 2
