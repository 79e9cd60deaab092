"use strict";
// The page that was written down: where it was made, and whether the images still lie beside it.

const embedded = new Embedded();
begin(embedded).then(async () => {
  const { head } = embedded;
  put(byId("foot"), `Made ${moment(head.made_at)} by batchgen. Full-size images lie in `, words(head.images, "code"), ", seen from this page. Times are UTC.");
  await embedded.ready;
  const { rows } = await embedded.rows(NOTHING, 0);
  const image = rows.flatMap((row) => row.tasks).flatMap((task) => task.images ?? []).find((each) => embedded.full(each));
  if (!image) return;
  const probe = new Image();
  probe.addEventListener("error", () => complain("The run's folder is not where it was when this page was made: pictures cannot be opened at their full size."));
  probe.src = embedded.full(image);
});
