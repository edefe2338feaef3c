import { useAddress } from "../../base/router";
import { ModelList } from "./model_list";
import { ModelView } from "./model_view";

/** Models: all of them and their names, or one. */
export function ModelsPlace() {
  const { id } = useAddress();
  return id ? <ModelView key={id} id={id} /> : <ModelList />;
}
