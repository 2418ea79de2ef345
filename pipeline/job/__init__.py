"""The job language: from a manifest to its requests.

    manifest     files → one map, bases merged in, all that does not fit the schema taken out and told
                 (yaml12 reads, schema checks, problems and vocabulary find the words)
    language     the map → a Job: settings, items (catalog, conditions), matrix, overrides, turns, tables, operation
    expand       a Job → its requests, row by row; a million rows take the memory of one
      items        where rows come from (sources, globs, lines, columns): rename, fill, text (plain), where, id
      overrides    which of them hold for a row in a cell of the matrix; rowsets: what the row sets itself
      cells        the settings that won there (templates, limits of the model), decided once for all rows alike
      fitting      their texts bound to the columns (placeholders, tables, paths, slugs)
      rowimages    the images of a row (references, globs), whole (frames) and within the limits of the model
      ask          what one request wants, and its fingerprint
      change       other settings for one call, laid over an ask that stays what it is
      sheets       rows of the plain kind by the hundred, column by column
      twins        ids, keys, paths and asks that are there twice
      dependencies what was read on the way, for those who keep it

`expand.examine` does all of it and raises everything that is wrong at once.
"""
