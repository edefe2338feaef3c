import { useAddress } from "../../base/router";
import { FileList } from "./file_list";
import { FileReport } from "./file_report";

/** Data: all files, or what is in one of them. */
export function DataPlace() {
  const { id } = useAddress();
  return id ? <FileReport key={id} id={id} /> : <FileList />;
}
