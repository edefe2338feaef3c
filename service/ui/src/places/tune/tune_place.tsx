import { useAddress } from "../../base/router";
import { JobView } from "./job_view";
import { Runs } from "./runs";

/** Tune: a new job and all runs, or one of them. */
export function TunePlace() {
  const { id } = useAddress();
  return id ? <JobView key={id} id={id} /> : <Runs />;
}
